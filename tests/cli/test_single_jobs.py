"""Cancellation and waiting of commands that submit single jobs."""

from __future__ import annotations

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.keys import Keys
from tests.cli.shell import URL, queued


def test_jobs_are_cancelled_after_the_timeout(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", URL, URL, "--timeout", "0.05"]) == Exit.NO_RESULT
    assert "is now cancelled" in capsys.readouterr().err
    assert len(list(connection.scan_iter(Keys().cancelled("*")))) == 2


def test_a_full_queue_cancels_the_jobs_that_were_submitted_before(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    assert run(["embed", URL, URL]) == Exit.QUEUE_FULL
    assert len(list(connection.scan_iter(Keys().cancelled("*")))) == 1


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("verb", ["caption", "embed"])
def test_a_command_waits_for_capacity_on_request(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    assert run([verb, *[URL] * 5, "--when-full", "wait"]) == Exit.OK


@pytest.mark.parametrize(
    "command",
    [("match", URL, " "), ("match", "no.jpg", "a"), ("embed", "--text", ""), ("chat", URL, " ")],
)
def test_an_invalid_input_is_a_usage_error_and_nothing_is_submitted(
    command: tuple[str, ...], connection: redis.Redis
) -> None:
    assert run([*command]) == Exit.USAGE
    assert not queued(connection, "interactive")
