"""`blipline batch` status, cancel, retry, close and delete."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest
import redis

from producer import contract
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from tests.cli.shell import PROGRAM, Finish, json_lines, queued, results_of, submit_batch

NO_IMAGE = contract.failure("image_invalid", "no image")


def test_status_and_cancel_print_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    batch_id = submit_batch(capsys, 1)
    assert run(["batch", "status", batch_id]) == Exit.OK
    assert capsys.readouterr().out == "queued: 0 of 1 done, 0 failed\n"
    assert run(["batch", "cancel", batch_id]) == Exit.OK
    assert capsys.readouterr().out == ""
    assert run(["batch", "status", batch_id, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["state"] == "cancelled"
    assert run(["batch", "results", batch_id]) == Exit.SOME_FAILED


@pytest.mark.parametrize(
    ("recent", "remaining", "pace"),
    [
        (412_000, 8_652, "412 items/s, 21 s left"),
        (12_000, 8_640, "12 items/s, 12 min left"),
        (1_200, 8_640, "1.2 items/s, 2.0 h left"),
    ],
)
def test_status_prints_the_rate_and_the_remaining_time(
    recent: int,
    remaining: int,
    pace: str,
    connection: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch_id = submit_batch(capsys, 1)
    # Counts of a batch that has run for some time.
    done = 500_000
    seconds, microseconds = connection.time()
    connection.hset(
        Keys().batch(batch_id),
        mapping={
            "total": done + remaining,
            "done": done,
            "failed": 3,
            "before_done": done - recent,
            "before_at": seconds + microseconds / 1e6 - 1000,
        },
    )
    assert run(["batch", "status", batch_id]) == Exit.OK
    expected = f"running: 500,000 of {done + remaining:,} done, 3 failed; {pace}\n"
    assert capsys.readouterr().out == expected
    assert run(["batch", "status", batch_id, "--json"]) == Exit.OK
    line = json.loads(capsys.readouterr().out)
    assert line.pop("rate") == pytest.approx(recent / 1000, rel=0.01)
    assert line.pop("left_s") == pytest.approx(1000 * remaining / recent, rel=0.01)
    assert line == {
        "batch": batch_id,
        "state": "running",
        "total": done + remaining,
        "done": done,
        "failed": 3,
        "submitted": True,
        "workers": 0,
    }


def test_an_unknown_rate_is_null(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    batch_id = submit_batch(capsys, 1)
    run(["batch", "status", batch_id, "--json"])
    line = json.loads(capsys.readouterr().out)
    assert (line["rate"], line["left_s"]) == (None, None)
    finish(f"{batch_id}:0", results_of(0, 1))
    run(["batch", "status", batch_id, "--json"])
    line = json.loads(capsys.readouterr().out)
    assert (line["rate"], line["left_s"]) == (None, 0.0)


def test_status_reports_a_silent_producer_and_close_ends_the_wait(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch whose producer died a quarter of an hour ago
    batch_id = submit_batch(capsys, 2)
    finish(f"{batch_id}:0", results_of(0, 2))
    ago = connection.time()[0] - 900
    connection.hset(Keys().batch(batch_id), mapping={"submitted": 0, "heard_at": ago})
    assert run(["batch", "status", batch_id]) == Exit.OK
    state = "still being submitted, but no items for 15 min"
    assert capsys.readouterr().out == f"running: 2 of 2 done, 0 failed; {state}\n"
    assert run(["batch", "results", batch_id, "--no-wait"]) == Exit.NO_RESULT
    # When it is closed
    capsys.readouterr()
    assert run(["batch", "close", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("", f"blipline: batch {batch_id} is closed; it has 2 items\n")
    # Then it has ended
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert run(["batch", "status", batch_id]) == Exit.OK
    assert capsys.readouterr().out.endswith("done: 2 of 2 done, 0 failed\n")


@pytest.mark.parametrize("last", [{"text": "39"}, NO_IMAGE])
def test_watch_shows_the_progress_until_the_end(
    last: dict[str, Any], finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch that is watched on a terminal
    batch_id = submit_batch(capsys, 70)
    controller, terminal = os.openpty()
    command = [*PROGRAM, "batch", "status", batch_id, "--watch"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environment
    ) as process:
        os.close(terminal)
        shown = b""
        while b"0/70" not in shown:
            shown += os.read(controller, 4096)
        finish(f"{batch_id}:0", results_of(0, 32))
        finish(f"{batch_id}:1", results_of(32, 64))
        while not re.search(rb"64/70.* items/s", shown):
            shown += os.read(controller, 4096)
        assert process.poll() is None
        # When its last items end
        finish(f"{batch_id}:2", [*results_of(64, 69), last])
        out, _ = process.communicate(timeout=20)
    os.close(controller)
    # Then the output is that of `status`
    failed = int("error" in last)
    state = "failed" if failed else "done"
    assert out == f"{state}: 70 of 70 done, {failed} failed\n"
    assert process.returncode == (Exit.SOME_FAILED if failed else Exit.OK)


def test_watch_of_a_cancelled_batch_ends_with_an_error_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batch_id = submit_batch(capsys, 1)
    run(["batch", "cancel", batch_id])
    capsys.readouterr()
    assert run(["batch", "status", batch_id, "--watch", "--json"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    assert (json.loads(out)["state"], err) == ("cancelled", "")


def test_retry_submits_failed_items_and_prints_their_number(
    finish: Finish, capsys: pytest.CaptureFixture[str], connection: redis.Redis
) -> None:
    batch_id = submit_batch(capsys, 40)
    finish(f"{batch_id}:0", [*results_of(0, 30), NO_IMAGE, NO_IMAGE])
    finish(f"{batch_id}:1", results_of(32, 40))
    connection.delete("bulk")
    assert run(["batch", "retry", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("2\n", "")
    assert len(queued(connection)) == 1
    finish(f"{batch_id}:0", results_of(0, 32))
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert len(json_lines(capsys.readouterr().out)) == 40
    assert run(["batch", "retry", batch_id, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"batch": batch_id, "items": 0}


def test_retry_resumes_a_cancelled_batch(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a batch with a chunk that is done, and two that were cancelled
    batch_id = submit_batch(capsys, 96)
    finish(f"{batch_id}:0", results_of(0, 32))
    run(["batch", "cancel", batch_id])
    assert run(["batch", "results", batch_id]) == Exit.SOME_FAILED
    capsys.readouterr()
    # When it is retried
    assert run(["batch", "retry", batch_id]) == Exit.OK
    assert capsys.readouterr().out == "64\n"
    # Then the last two run
    for number in (1, 2):
        claim = Leases(connection).claim(f"{batch_id}:{number}")
        assert (claim.run, claim.cancelled) == (True, False)
        finish(f"{batch_id}:{number}", results_of(32 * number, 32 * number + 32))
    assert run(["batch", "results", batch_id]) == Exit.OK
    assert len(json_lines(capsys.readouterr().out)) == 96


def test_delete_removes_a_batch_and_its_results(
    finish: Finish, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = submit_batch(capsys, 40)
    finish(f"{batch_id}:0", results_of(0, 32))
    assert run(["batch", "delete", batch_id]) == Exit.OK
    assert capsys.readouterr() == ("", f"blipline: batch {batch_id} is deleted\n")
    assert run(["batch", "status", batch_id]) == Exit.USAGE
    assert not connection.exists(Keys().result(f"{batch_id}:0"))
    assert not connection.zcard(Keys().open)


def test_an_unknown_batch_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "results", "cancel", "retry", "close", "delete"):
        assert run(["batch", verb, "no-such-batch"]) == Exit.USAGE
        assert "no batch no-such-batch" in capsys.readouterr().err
