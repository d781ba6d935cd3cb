"""`blipline status`."""

from __future__ import annotations

import json

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.leases import Leases
from tests.cli.shell import submit_batch


def test_status_prints_workers_and_open_items(
    capsys: pytest.CaptureFixture[str], connection: redis.Redis
) -> None:
    Leases(connection).report_worker("host:1")
    submit_batch(capsys, 3)
    assert run(["status"]) == Exit.OK
    output = capsys.readouterr()
    lines = ["workers: 1", "interactive: 0 open items", "bulk: 3 open items", "running: 0 jobs"]
    assert (output.out.splitlines(), output.err) == (lines, "")


def test_without_a_worker_a_note_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    batch_id = submit_batch(capsys, 1)
    for command in (["status", "--json"], ["batch", "status", batch_id]):
        assert run(command) == Exit.OK
        output = capsys.readouterr()
        assert "no worker is alive" in output.err
        assert "python -m worker" in output.err
    assert run(["batch", "status", batch_id, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["workers"] == 0
