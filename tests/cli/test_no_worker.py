"""Each command that waits says after some seconds that no worker is alive."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import redis
from PIL import Image

from producer import Client
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger import worker_watch
from producer.ledger.leases import Leases
from producer.ledger.worker_watch import NO_WORKER, WorkerWatch
from tests.cli.shell import submit_batch

#: Commands that wait for a worker until a timeout.
WAITS = (
    "caption cat.jpg",
    "ask cat.jpg why?",
    "chat cat.jpg why?",
    "describe cat.jpg",
    "match cat.jpg cat",
    "embed cat.jpg",
    "embed --text cat",
    "batch submit captions.jsonl --wait",
    "capfilt pairs.jsonl -o accepted.jsonl",
    "capfilt --calibrate pairs.jsonl",
)


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a wait long after a few look-ups."""
    monkeypatch.setattr(worker_watch, "SILENT_S", 0.02)


@pytest.fixture(autouse=True)
def files(environment: None) -> None:
    """Write the files of the commands."""
    Path("photos").mkdir()
    Image.new("RGB", (8, 8)).save("photos/a.png")
    Image.new("RGB", (8, 8)).save("cat.jpg")
    pair = {"image": "cat.jpg", "text": "a cat", "label": True}
    Path("pairs.jsonl").write_text(json.dumps(pair))
    Path("captions.jsonl").write_text(json.dumps({"image": "cat.jpg"}))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("command", WAITS)
def test_a_wait_without_a_worker_warns_once_before_its_timeout(
    caplog: pytest.LogCaptureFixture, command: str
) -> None:
    assert run([*command.split(), "--timeout", "0.15"]) == Exit.NO_RESULT
    assert warnings(caplog) == [NO_WORKER]


@pytest.mark.parametrize("command", WAITS[::4])
def test_a_wait_with_a_worker_that_is_busy_says_nothing(
    caplog: pytest.LogCaptureFixture, connection: redis.Redis, command: str
) -> None:
    Leases(connection).report_worker("host:1")
    assert run([*command.split(), "--timeout", "0.15"]) == Exit.NO_RESULT
    assert warnings(caplog) == []


@pytest.fixture
def ends_at_warning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Press Ctrl-C at the first warning of a wait, which is added to the list."""
    seen: list[str] = []

    def warn(message: str) -> None:
        seen.append(message)
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_watch.log, "warning", warn)
    return seen


def test_waits_without_a_timeout_warn(
    ends_at_warning: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_BULK", "1")
    batch_id = submit_batch(capsys, 1)
    commands = (
        ["index", "photos"],
        ["annotate", "photos"],
        ["annotate", "photos", "--dry-run"],
        ["batch", "results", batch_id],
        ["batch", "status", batch_id, "--watch"],
        # The queue is full, and nobody makes room.
        ["batch", "submit", "captions.jsonl"],
    )
    for number, command in enumerate(commands, start=1):
        # Each command has a client, and a watch, of its own.
        assert run(command) == Exit.INTERRUPTED
        assert ends_at_warning == [NO_WORKER] * number, command


def test_waits_of_a_client_share_one_warning_a_minute(
    caplog: pytest.LogCaptureFixture, client: Client
) -> None:
    threads = [threading.Thread(target=client.worker_watch.look, args=[60.0]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings(caplog) == [NO_WORKER]


def test_a_redis_that_fails_does_not_end_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> int:
        raise redis.ConnectionError("gone")

    WorkerWatch(fail).look(60.0)
    assert warnings(caplog) == []
