"""Outages: a command rides out a restart of Redis with a note on stderr."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from demo.stack import free_port
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.ledger.worker_watch import NO_WORKER
from tests.cli.shell import PROGRAM, URL, json_lines, write_lines
from tests.ledger.jobs import store_result
from tests.redis_servers import Server, wait_until


def test_a_batch_is_submitted_and_awaited_across_a_restart(server: Server) -> None:
    items = [{"image": URL, "custom_id": f"c{n}"} for n in range(40)]
    command = [*PROGRAM, "batch", "submit", write_lines(*items), "--id", "nightly", "--wait"]
    url = f"redis://:@127.0.0.1:{server.port}/0"
    program = subprocess.Popen(
        command,
        env={**os.environ, "BLIPLINE_REDIS_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server.connect() as connection:
        record = Keys().batch("nightly")
        wait_until(lambda: connection.hget(record, "submitted") == b"1", "a submitted batch")
        server.kill()
        assert program.stderr is not None
        # On a slow machine, the absence of a worker is reported first.
        note = next(line for line in program.stderr if NO_WORKER not in line)
        server.start()
        leases = Leases(connection)
        for number, count in enumerate((32, 8)):
            store_result(leases, f"nightly:{number}", [{"text": "a cat"}] * count)
    out, err = program.communicate(timeout=60)
    assert program.returncode == Exit.OK
    assert note.startswith(f"blipline: Redis at redis://:***@127.0.0.1:{server.port}/0: ")
    assert note.endswith("Trying again for up to 60 s\n")
    lines = [line for line in err.splitlines() if NO_WORKER not in line]
    assert lines == [f"blipline: Redis at redis://:***@127.0.0.1:{server.port}/0 answers again"]
    assert len(json_lines(out)) == 40


def test_a_wrong_port_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("BLIPLINE_REDIS_WAIT_S", "86400")
    assert run(["batch", "submit", write_lines({"image": URL})]) == Exit.NO_REDIS
    assert "Is it running, and is BLIPLINE_REDIS_URL correct?" in capsys.readouterr().err


def test_after_the_limit_a_command_ends_with_the_code_of_an_unreachable_redis(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", f"redis://127.0.0.1:{server.port}/0")
    monkeypatch.setenv("BLIPLINE_REDIS_WAIT_S", "0.3")
    assert run(["batch", "submit", write_lines({"image": URL}), "--id", "one", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"batch": "one", "items": 1}
    server.kill()
    assert run(["batch", "results", "one"]) == Exit.NO_REDIS
