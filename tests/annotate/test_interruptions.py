"""Interruptions: kill -9 of the command at any moment, a Redis that forgets, and an interrupt."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis

from producer.annotate.storage.journal import Journal
from producer.cli.exit_codes import Exit
from tests.annotate.conftest import Responder
from tests.annotate.sample_collections import annotate, captions, json_lines, text_of, write_image
from tests.cli.shell import PROGRAM

IMAGES = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(IMAGES):
        write_image(tmp_path / "p" / f"{number % 7}" / f"{number}.ppm", number)
    return tmp_path / "p"


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PROGRAM, "annotate", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_captions(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while len(captions(folder)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_run_is_continued_and_each_image_has_its_caption_once(
    responder: Responder, folder: Path
) -> None:
    (folder / "0" / "0.txt").write_text("before")
    for share in (1, IMAGES // 3, IMAGES // 2):
        process = start("p", "--existing", "append")
        wait_for_captions(folder, share, process)
        process.kill()
        process.wait()
    assert annotate("p", "--existing", "append") == Exit.OK
    expected = {
        str(path.relative_to(folder).with_suffix(".txt")): f"{text_of(path)}\n"
        for path in folder.rglob("*.ppm")
    }
    expected["0/0.txt"] = "before, " + expected["0/0.txt"]
    assert captions(folder) == expected
    # A batch that was in flight is adopted, not repeated; only one being submitted may be.
    assert responder.answers < 2 * IMAGES
    assert not list(folder.rglob("*.part"))


def test_answers_of_a_killed_run_are_not_asked_again(
    responder: Responder, folder: Path, tmp_path: Path
) -> None:
    answered: list[int] = []

    def text(item: object, options: object) -> str:
        answered.append(1)
        if len(answered) == IMAGES // 2:
            process.kill()
        return "a text"

    responder.text_of = text
    process = start("p", "-o", "out.jsonl")
    process.wait()
    assert annotate("p", "-o", "out.jsonl") == Exit.OK
    assert len(json_lines(tmp_path / "out.jsonl")) == IMAGES
    assert responder.answers == IMAGES


def test_a_redis_that_forgets_its_batches_is_given_them_again(
    responder: Responder, folder: Path, connection: redis.Redis
) -> None:
    forgotten: list[bool] = []

    def text(item: object, options: object) -> str:
        if not forgotten:
            forgotten.append(True)
            connection.flushall()
        return "a text"

    responder.text_of = text
    assert annotate("p") == Exit.OK
    assert len(captions(folder)) == IMAGES


def test_an_interrupt_keeps_what_is_there(
    responder: Responder, folder: Path, tmp_path: Path
) -> None:
    process: list[subprocess.Popen[bytes]] = []
    seen: list[int] = []

    def text(item: object, options: object) -> str:
        seen.append(1)
        if len(seen) == IMAGES:
            process[0].send_signal(signal.SIGINT)
        return "a text"

    responder.text_of = text
    process.append(start("p", "-o", "out.jsonl"))
    assert process[0].wait(100) in (Exit.INTERRUPTED, Exit.OK)
    assert annotate("p", "-o", "out.jsonl") == Exit.OK
    assert len(json_lines(tmp_path / "out.jsonl")) == IMAGES


def test_two_runs_of_one_journal_do_not_write_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Journal(str(folder / ".blipline-annotate.db"))
    assert annotate("p") == Exit.USAGE
    assert "another run of this command is writing it" in capsys.readouterr().err
    running.close()


def test_a_run_that_ends_leaves_no_batch_open(responder: Responder, folder: Path) -> None:
    assert annotate("p") == Exit.OK
    journal = Journal(str(folder / ".blipline-annotate.db"))
    assert journal.open_batches() == []
    journal.close()
