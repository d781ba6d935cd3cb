"""Help and version."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from producer.cli.app import blipline, run
from producer.cli.exit_codes import Exit
from producer.contract import Item, Options
from tests.commands import members


def commands(group: click.Group, path: str = "blipline") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its path."""
    yield path, group
    for name, command in members(group).items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize("path", list(dict(commands(blipline))))
def test_every_command_and_option_has_help_and_an_example(path: str) -> None:
    command = dict(commands(blipline))[path]
    assert command.help
    assert re.search(rf"^ {{2,}}.*{path} ", command.help, re.MULTILINE), "no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"


@pytest.mark.parametrize("name", blipline.commands)
def test_the_summary_of_a_command_is_the_first_line_of_its_help(name: str) -> None:
    loaded = members(blipline)[name]
    assert (loaded.name, (loaded.help or "").partition("\n")[0]) == (
        name,
        blipline.commands[name].help,
    )


@pytest.mark.parametrize("path", list(dict(commands(blipline))))
def test_no_option_is_nan(path: str) -> None:
    numbers = [
        parameter
        for parameter in dict(commands(blipline))[path].params
        if isinstance(parameter.type, click.types.FloatParamType)
    ]
    for parameter in numbers:
        for text in ("nan", "-NaN", "inf", "-Infinity", "1e999"):
            with pytest.raises(click.BadParameter):
                parameter.type.convert(text, parameter, None)


@pytest.mark.parametrize("path", ["caption", "ask", "chat", "batch submit"])
def test_every_generation_option_of_the_contract_is_on_the_command_line(path: str) -> None:
    parameters = dict(commands(blipline))[f"blipline {path}"].params
    options = {option for parameter in parameters for option in parameter.opts}
    expected = {name.replace("_", "-") for name in Options.model_fields} - {"deadline", "stream"}
    assert {f"--{name}" for name in expected | {"deadline-s"}} <= options


@pytest.mark.parametrize("name", sorted(set(Item.model_fields) - {"error"}))
def test_the_help_of_batches_describes_every_field_of_an_item(name: str) -> None:
    help_text = dict(commands(blipline))["blipline batch submit"].help or ""
    assert re.search(rf"^ {{6}}{name} ", help_text, re.MULTILINE)


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == Exit.OK
    out = capsys.readouterr().out
    for code in Exit:
        if code not in (Exit.STDOUT_CLOSED, Exit.TERMINATED):
            assert f"\n    {code.value} " in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == Exit.OK
    assert capsys.readouterr().out.startswith("blipline")


def test_without_the_extra_an_error_message_names_what_to_install() -> None:
    program = "import sys; sys.modules['rich'] = None; from producer.cli import main; main()"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "pip install '.[cli]'" in process.stderr
