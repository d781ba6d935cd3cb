"""`blipline batch submit`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import redis

from producer import Client
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.contract import Task
from producer.ledger.keys import Keys
from tests.cli.shell import (
    PROGRAM,
    TURN,
    URL,
    Finish,
    json_lines,
    queued,
    results_of,
    submit_batch,
    write_lines,
)


def test_submit_prints_the_id_and_results_are_in_the_order_of_the_lines(
    finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(40)))
    assert run(["batch", "submit", file]) == Exit.OK
    batch_id = capsys.readouterr().out.strip()
    # The second chunk ends first.
    for number, items in ((1, range(32, 40)), (0, range(32))):
        finish(f"{batch_id}:{number}", [{"custom_id": f"c{n}", "text": str(n)} for n in items])
    assert run(["batch", "results", batch_id]) == Exit.OK
    lines = json_lines(capsys.readouterr().out)
    assert lines == [{"custom_id": f"c{n}", "status": "ok", "text": str(n)} for n in range(40)]


def test_an_item_may_have_its_own_task(connection: redis.Redis) -> None:
    question = {"custom_id": "q", "image": URL, "task": "vqa", "question": "what?"}
    assert run(["batch", "submit", write_lines(question), "--seed", "1"]) == Exit.OK
    payload = {"task": "caption", "items": [question], "options": {"seed": 1}}
    assert queued(connection) == [payload]


@pytest.mark.parametrize("task", [task.short for task in Task])
def test_a_batch_may_have_any_task(task: str, connection: redis.Redis) -> None:
    assert run(["batch", "submit", write_lines({"image": URL}), "--task", task]) == Exit.OK
    headers = json.loads(connection.lindex("bulk", 0) or "")["headers"]
    assert headers["task"] == f"blipline.{task}"


@pytest.mark.usefixtures("workers")
def test_results_contain_the_fields_of_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(
        {"image": URL, "task": "match", "texts": ["a dog", "a cat"]},
        {"task": "embed", "text": "a cat"},
        {"image": URL, "task": "chat", "question": "where?", "history": [TURN]},
    )
    assert run(["batch", "submit", file, "--wait"]) == Exit.OK
    match, embed, chat = json_lines(capsys.readouterr().out)
    assert [sorted(score) for score in match["matches"]] == [["cosine", "probability", "text"]] * 2
    assert embed == {"custom_id": "2", "status": "ok", "embedding": [0.6, -0.8]}
    assert chat["text"] == f"about where? after {[TURN]}"


@pytest.mark.usefixtures("workers")
def test_wait_writes_a_result_for_each_line_valid_or_not() -> None:
    Path("items.jsonl").write_text(
        "\n".join([json.dumps({"image": URL}), "nonsense", "", json.dumps({"image": "no.jpg"})])
    )
    command = ["batch", "submit", "items.jsonl", "--wait", "-o", "out.jsonl"]
    assert run(command) == Exit.SOME_FAILED
    good, nonsense, missing = json_lines(Path("out.jsonl").read_text())
    assert good == {"custom_id": "1", "status": "ok", "text": "about cat.jpg"}
    assert (nonsense["custom_id"], nonsense["error"]["code"]) == ("2", "option_invalid")
    assert (missing["custom_id"], missing["error"]["code"]) == ("4", "image_unreachable")
    assert sorted(os.listdir()) == ["items.jsonl", "out.jsonl"]


def test_output_without_wait_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["batch", "submit", write_lines({"image": URL}), "-o", "out"]) == Exit.USAGE
    assert "add --wait" in capsys.readouterr().err


def test_a_batch_with_an_id_is_submitted_only_once(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert submit_batch(capsys, 40, "--id", "nightly") == "nightly"
        assert [len(chunk["items"]) for chunk in queued(connection)] == [32, 8]
    # Other items need another id.
    assert run(["batch", "submit", write_lines({"image": "blob:x"}), "--id", "nightly"]) == 2
    assert "choose another id" in capsys.readouterr().err
    assert run(["batch", "submit", write_lines({"image": URL}), "--id", "a b"]) == Exit.USAGE


def test_a_batch_that_a_full_queue_interrupted_is_resumed_by_its_id(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a queue with capacity for one chunk
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_BULK", "32")
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(5000)))
    # When a batch is submitted that does not wait for capacity
    assert run(["batch", "submit", file, "--id", "big", "--when-full", "raise"]) == Exit.QUEUE_FULL
    assert "BLIPLINE_MAX_QUEUED_BULK" in capsys.readouterr().err
    # Then the same command submits the rest once there is capacity
    monkeypatch.delenv("BLIPLINE_MAX_QUEUED_BULK")
    assert run(["batch", "submit", file, "--id", "big"]) == Exit.OK
    with Client() as client:
        progress = client.batch("big").progress()
    assert (progress.total, progress.submitted) == (5000, True)
    assert connection.zcard(Keys().open) == -(-5000 // 32)


@pytest.mark.usefixtures("workers")
def test_a_batch_waits_for_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_BULK", "32")
    file = write_lines(*[{"image": URL}] * 100)
    assert run(["batch", "submit", file, "--wait", "-o", "out.jsonl"]) == Exit.OK
    assert len(json_lines(Path("out.jsonl").read_text())) == 100


def test_an_interrupted_submission_prints_how_to_submit_the_rest(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(*({"custom_id": f"c{n}", "image": URL} for n in range(8000)))
    # Given a pipe that has not delivered all items
    command = [*PROGRAM, "batch", "submit", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(Path(file).read_text())
        process.stdin.flush()
        while not connection.exists("bulk"):
            assert process.poll() is None
        # When Ctrl-C interrupts the command
        threading.Event().wait(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    # Then the batch can be resumed by its id
    assert process.returncode == Exit.INTERRUPTED
    match = re.search(
        r"batch (\S+) continues with .* items?; the same command with --id \1 submits the rest", err
    )
    assert match is not None
    assert run(["batch", "submit", file, "--id", match[1], "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"batch": match[1], "items": 8000}
    assert connection.zcard(Keys().open) == 8000 // 32


def test_results_are_kept_for_the_requested_time(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submit_batch(capsys, 1, "--keep-s", "1000")
    finish(f"{batch_id}:0", results_of(0, 1))
    assert 990 < connection.ttl(Keys().result(f"{batch_id}:0")) <= 1000
    assert run(["batch", "submit", "items.jsonl", "--keep-s", "0"]) == Exit.USAGE


def test_ctrl_c_prints_how_to_resume_and_the_batch_continues(connection: redis.Redis) -> None:
    file = write_lines({"image": URL})
    command = [*PROGRAM, "batch", "submit", file, "--wait", "-o", "out.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not connection.exists("bulk"):
            assert process.poll() is None
        # The command needs a moment until it waits for the results.
        threading.Event().wait(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == Exit.INTERRUPTED
    assert "blipline batch results " in err
    assert "Traceback" not in err
    assert os.listdir() == ["items.jsonl"]
    assert not list(connection.scan_iter(Keys().cancelled("*")))
