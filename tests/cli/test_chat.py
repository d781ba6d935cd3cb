"""`blipline chat`: one question, a pipe, a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.cli.shell import PROGRAM, TURN, URL, Finish, id_of, json_lines


def converse(
    monkeypatch: pytest.MonkeyPatch, lines: bytes, *arguments: str, image: str = URL
) -> Exit:
    """Run `blipline chat` with the questions in a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    return Exit(run(["chat", image, *arguments]))


@pytest.mark.usefixtures("workers")
def test_a_question_is_submitted_with_its_history(
    capsys: pytest.CaptureFixture[str],
) -> None:
    turns = ["--turn", *TURN.values(), "--turn", "where?", "on a sofa"]
    assert run(["chat", URL, "what color?", *turns]) == Exit.OK
    history = [TURN, {"question": "where?", "answer": "on a sofa"}]
    assert capsys.readouterr() == (f"about what color? after {history}\n", "")


@pytest.mark.usefixtures("workers")
def test_a_dialogue_in_a_pipe_adds_answers_to_the_history(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert converse(monkeypatch, b"one?\n\n  two?  \n") == Exit.OK
    turn = {"question": "one?", "answer": "about one?"}
    assert capsys.readouterr() == (f"about one?\nabout two? after {[turn]}\n", "")


@pytest.mark.usefixtures("workers")
def test_a_failed_question_prints_an_empty_line_and_is_not_in_the_history(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"one?\nand this?\nthree?"
    assert converse(monkeypatch, lines, "--turn", *TURN.values()) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    history = [TURN, {"question": "one?", "answer": f"about one? after {[TURN]}"}]
    first, second, third = out.split("\n")[:3]
    assert (first, second) == (history[1]["answer"], "")
    assert third == f"about three? after {history}"
    assert err == "blipline: and this?: no image (image_invalid)\n"


@pytest.mark.usefixtures("workers")
def test_json_contains_question_and_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert converse(monkeypatch, b"one?\nand this?\n", "--json") == Exit.SOME_FAILED
    good, bad = json_lines(capsys.readouterr().out)
    assert good == {"image": URL, "question": "one?", "status": "ok", "text": "about one?"}
    assert (bad["question"], bad["error"]["code"]) == ("and this?", "image_invalid")
    assert run(["chat", URL, "one?", "--json"]) == Exit.OK
    assert json_lines(capsys.readouterr().out) == [good]


@pytest.mark.usefixtures("workers")
def test_a_dialogue_stops_if_the_image_is_invalid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "https://images.example.com/broken.jpg"
    assert converse(monkeypatch, b"one?\ntwo?\n", image=broken) == Exit.SOME_FAILED
    assert capsys.readouterr().err.count("image_invalid") == 1
    for image in ("missing.jpg", ".", "*.jpg"):
        assert converse(monkeypatch, b"one?\n", image=image) == Exit.USAGE
        assert image in capsys.readouterr().err


def test_on_a_terminal_prompts_go_to_stderr(redis_url: str, finish: Finish) -> None:
    # Given a dialogue whose answers go to a file
    controller, terminal = os.openpty()
    command = [*PROGRAM, "chat", URL]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(terminal)
        # When a question is typed and answered, and Ctrl-D is pressed
        os.write(controller, b"one?\n")
        with redis.Redis.from_url(redis_url) as connection:
            message = connection.brpop(["interactive"], timeout=20)
        assert message is not None
        finish(id_of(message[1]), [{"text": "a cat"}])
        os.write(controller, b"\x04")
        out, err = process.communicate(timeout=20)
    os.close(controller)
    # Then the file contains the answer, and the terminal everything else
    assert (process.returncode, out) == (Exit.OK, "a cat\n")
    assert err == f"blipline: ask about {URL}; Ctrl-D ends\n> > \n"
