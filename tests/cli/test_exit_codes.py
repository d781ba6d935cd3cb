"""Exit codes and error messages."""

from __future__ import annotations

import pytest
import redis

from demo.stack import free_port
from producer import Client
from producer.cli.app import run
from producer.cli.exit_codes import Exit, report_error
from tests.cli.shell import URL, queued


@pytest.mark.parametrize(
    "command",
    [
        ("caption", URL),
        ("ask", URL, "what?"),
        ("chat", URL, "what?"),
        ("match", URL, "a cat"),
        ("embed", URL),
        ("batch", "status", "x"),
        ("batch", "retry", "x"),
        ("dead", "list"),
    ],
)
def test_an_unreachable_redis_has_its_own_exit_code(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--redis-url", f"redis://127.0.0.1:{free_port()}"]) == Exit.NO_REDIS
    err = capsys.readouterr().err
    assert "BLIPLINE_REDIS_URL" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [("caption", URL), ("match", URL, "a"), ("chat", URL, "a?")])
def test_a_full_queue_has_its_own_exit_code(
    command: tuple[str, ...],
    connection: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    with Client() as client:
        client.caption(URL)
    assert run([*command]) == Exit.QUEUE_FULL
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "BLIPLINE_MAX_QUEUED_INTERACTIVE" in err
    assert "try again later" in err
    assert len(queued(connection, "interactive")) == 1


@pytest.mark.parametrize("debug", [False, True])
def test_an_internal_error_prints_one_line_and_a_traceback_only_on_request(
    debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_DEBUG", str(int(debug)))
    assert report_error(KeyError("x")) == Exit.INTERNAL_ERROR
    err = capsys.readouterr().err
    assert "internal error (KeyError: 'x')" in err
    assert "Please report it" in err
    assert (err.count("\n") > 1) == debug
