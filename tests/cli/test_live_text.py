"""Texts that grow on a terminal: `--stream`."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.keys import Keys
from tests.cli.shell import URL, Finish, id_of, json_lines, queued
from tests.gateway.samples import DESCRIPTION

ERROR = {"error": {"code": "image_invalid", "message": "no image"}}


class Terminal:
    """A terminal in place of stdout, and its output so far."""

    def __init__(self) -> None:
        self._controller, terminal = os.openpty()
        self._stdout = os.fdopen(terminal, "w")
        self.text = ""

    def run(self, *arguments: str) -> int:
        """Run a command whose stdout is the terminal; pytest replaces stdout in each phase."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", self._stdout)
            return run(arguments)

    def read_until(self, text: str) -> None:
        """Read until the output ends with a text."""
        while not self.text.endswith(text):
            assert select.select([self._controller], [], [], 20)[0], f"no {text!r}: {self.text!r}"
            self.text += os.read(self._controller, 4096).decode().replace("\r\n", "\n")

    def close(self) -> None:
        self._stdout.close()
        os.close(self._controller)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def grow(connection: redis.Redis, finish: Finish, terminal: Terminal) -> Iterator[Any]:
    """Yield a function that lets texts of the next job grow on the terminal, and then ends it.

    Each text is a pair: the text so far, and the end of the output that it causes.
    """
    threads: list[threading.Thread] = []

    def work(
        before: Sequence[threading.Thread],
        texts: Sequence[tuple[str, str]],
        result: Mapping[str, Any],
    ) -> None:
        for thread in before:
            thread.join()
        message = connection.brpop(["interactive"], timeout=20)
        assert message is not None
        job_id = id_of(message[1])
        for text, shown in texts:
            connection.set(Keys().partial_text(job_id), text)
            terminal.read_until(shown)
        finish(job_id, [result])

    def grow(result: Mapping[str, Any], *texts: tuple[str, str]) -> None:
        threads.append(threading.Thread(target=work, args=(tuple(threads), texts, result)))
        threads[-1].start()

    yield grow
    for thread in threads:
        thread.join()


COMMANDS: list[list[str]] = [
    ["caption", URL],
    ["ask", URL, "what?"],
    ["chat", URL, "what?"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_text_grows_on_a_terminal_and_is_complete_once(
    command: list[str], grow: Any, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    grow({"text": "a cat on a sofa"}, ("a", "a"), ("a cat", "a cat"))
    assert terminal.run(*command, "--stream") == Exit.OK
    terminal.read_until("\n")
    assert terminal.text == "a cat on a sofa\n"
    assert capsys.readouterr().err == ""


def test_a_description_is_one_part_and_its_warning_follows(
    grow: Any, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    grow({**DESCRIPTION, "warning": "not polished: no answer"})
    assert terminal.run("describe", URL, "--stream") == Exit.OK
    terminal.read_until("\n")
    assert terminal.text == "A cat.\n"
    assert capsys.readouterr().err == f"blipline: {URL}: not polished: no answer\n"


def test_the_texts_of_several_images_are_lines(
    grow: Any, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "https://h.example/a.jpg", "https://h.example/b.jpg"
    grow({"text": "a\ncat"}, ("a", f"{first}\ta"))
    grow({"text": "two\tdogs"})
    assert terminal.run("caption", first, second, "missing.jpg", "--stream") == Exit.SOME_FAILED
    terminal.read_until(f"{second}\ttwo dogs\n")
    assert terminal.text == f"{first}\ta cat\n{second}\ttwo dogs\n"
    assert "missing.jpg: No such file" in capsys.readouterr().err


def test_an_error_ends_the_line_of_the_text_before_it(
    grow: Any, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    grow(ERROR, ("a ca", "a ca"))
    assert terminal.run("caption", URL, "--stream") == Exit.SOME_FAILED
    terminal.read_until("\n")
    assert terminal.text == "a ca\n"
    assert capsys.readouterr().err == f"blipline: {URL}: no image (image_invalid)\n"


def test_a_text_that_restarts_begins_on_a_line_of_its_own(
    grow: Any, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    grow({"text": "two dogs"}, ("a cat", "a cat"), ("two", "two"))
    assert terminal.run("caption", URL, "--stream") == Exit.OK
    terminal.read_until("dogs\n")
    assert terminal.text == "a cat\ntwo dogs\n"
    assert "the text begins again" in capsys.readouterr().err


def test_a_timeout_cancels_the_job_as_without_growth(
    terminal: Terminal, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.run("caption", URL, "--stream", "--timeout", "0") == Exit.NO_RESULT
    assert f"{URL}: no result after 0 s; the job was queued and is now cancelled" in (
        capsys.readouterr().err
    )
    assert not connection.exists(Keys().open)


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("command", [*COMMANDS, ["describe", URL]], ids=lambda command: command[0])
def test_elsewhere_lines_are_whole_and_as_without_the_option(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for arguments in ([], ["--stream"]):
        assert run([*command, *arguments]) == Exit.OK
        outputs.append(capsys.readouterr())
    assert outputs[0] == outputs[1]


@pytest.mark.usefixtures("keeps_jobs")
def test_only_a_terminal_asks_the_worker_for_growing_texts(
    connection: redis.Redis, terminal: Terminal
) -> None:
    command = ["caption", URL, "--stream", "--timeout", "0"]
    assert run(command) == Exit.NO_RESULT
    assert terminal.run(*command, "--json") == Exit.NO_RESULT
    assert terminal.run(*command) == Exit.NO_RESULT
    options = [payload["options"] for payload in queued(connection, "interactive")]
    assert options == [{}, {}, {"stream": True}]


@pytest.mark.usefixtures("workers")
def test_json_on_a_terminal_is_whole(terminal: Terminal) -> None:
    assert terminal.run("caption", URL, "--stream", "--json") == Exit.OK
    terminal.read_until("\n")
    assert json_lines(terminal.text) == [{"image": URL, "status": "ok", "text": "about cat.jpg"}]
