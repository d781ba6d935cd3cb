"""The documentation names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from config.settings import WorkerSettings
from producer.cli.app import blipline
from producer.cli.exit_codes import Exit
from producer.contract import ErrorCode, Options, Task
from producer.gateway.settings import GatewaySettings
from tests.commands import members
from worker.models.registry import FAMILIES, PRECISIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
TASKS = (ROOT / "docs" / "tasks.md").read_text()
BATCHES = (ROOT / "docs" / "batches.md").read_text()


def commands(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(group, click.Group):
        return [path]
    return [
        leaf
        for name, command in members(group).items()
        for leaf in commands(command, (*path, name))
    ]


FIELDS = WorkerSettings.model_fields | GatewaySettings.model_fields


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_stands_in_the_table_with_its_description(name: str) -> None:
    row = rf"^\| `{name.upper()}` \| [^|]* \| {re.escape(FIELDS[name].description or '')} \|$"
    assert re.search(row, SETTINGS, re.MULTILINE)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_is_documented(code: ErrorCode) -> None:
    assert re.search(rf"\b{code.value}\b", README)


@pytest.mark.parametrize("name", sorted(set(Options.model_fields) - {"deadline"}))
def test_every_option_is_documented(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", Options.model_fields)
def test_every_option_is_explained(name: str) -> None:
    assert re.search(rf"^\| .*`{name}`.* \|", TASKS, re.MULTILINE)


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_shown_as_a_message_and_offered_by_a_family(task: Task) -> None:
    assert f'"{task.value}"' in TASKS
    assert re.search(rf"^\| `{task.short}` \|", TASKS, re.MULTILINE)
    assert re.search(rf"^\| BLIP.*`{task.short}`", README, re.MULTILINE)


@pytest.mark.parametrize("page", [TASKS, BATCHES], ids=["tasks", "batches"])
def test_every_example_is_a_program(page: str) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        compile(example, "an example", "exec")


@pytest.mark.parametrize("architecture", sorted({family.architecture for family in FAMILIES}))
def test_every_family_is_named(architecture: str) -> None:
    kind, _, purpose = architecture.partition("For")
    name = {"Blip": "BLIP", "Blip2": "BLIP-2", "InstructBlip": "InstructBLIP"}[kind]
    title = {"QuestionAnswering": "VQA", "ImageTextRetrieval": "retrieval"}.get(purpose, "")
    assert re.search(rf"^\| .*\b{name}\b.*{title}", README, re.MULTILINE)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_named(precision: str) -> None:
    assert re.search(rf"runs in .*\b{precision}\b", README)


@pytest.mark.parametrize("path", commands(blipline), ids=" ".join)
def test_every_command_is_documented(path: tuple[str, ...]) -> None:
    assert f"blipline {' '.join(path)}" in README


@pytest.mark.parametrize("verb", [path[1] for path in commands(blipline) if path[0] == "batch"])
def test_what_can_be_done_with_a_batch_is_explained(verb: str) -> None:
    assert re.search(rf"`{verb} photos`|^blipline batch {verb} |batch {verb} photos", BATCHES, re.M)


@pytest.mark.parametrize("code", [code for code in Exit if code <= Exit.QUEUE_FULL])
def test_the_exit_codes_stand_in_the_readme(code: Exit) -> None:
    (sentence,) = re.findall(r"Exit codes: ([^.]*)\.", README)
    assert re.search(rf"\b{code.value} \w", sentence)


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) < 250


def test_every_file_on_the_map_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert len(text.splitlines()) < 150
    names = re.findall(r"\b(?:producer|worker|config|tests|docs)/[\w/]*(?:\.\w+)?", text)
    assert len(names) > 60
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("demo/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
