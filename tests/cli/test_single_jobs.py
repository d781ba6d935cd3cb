"""Cancellation and waiting of commands that submit single jobs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.keys import Keys
from tests.cli.shell import URL, queued, write_lines


def test_jobs_are_cancelled_after_the_timeout(
    connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", URL, URL, "--timeout", "0.05"]) == Exit.NO_RESULT
    assert "is now cancelled" in capsys.readouterr().err
    stored = [connection.get(key) for key in connection.scan_iter(Keys().result("*"))]
    assert [b'"cancelled"' in (result or b"") for result in stored] == [True] * 2


def test_a_full_queue_cancels_the_jobs_that_were_submitted_before(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_MAX_QUEUED_INTERACTIVE", "1")
    assert run(["embed", URL, URL]) == Exit.QUEUE_FULL
    (result,) = [connection.get(key) for key in connection.scan_iter(Keys().result("*"))]
    assert b'"cancelled"' in (result or b"")
    assert not connection.exists(Keys().open)


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


@pytest.mark.usefixtures("workers")
def test_a_name_with_control_characters_stays_a_field_of_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["a\tb.jpg", "a\nb.jpg", "\x1b[31m.jpg", "é.jpg"]
    for name in names:
        Path(name).write_bytes(name.encode())
    assert run(["caption", *names, "no\nsuch.jpg"]) == Exit.SOME_FAILED
    out, err = capsys.readouterr()
    fields = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in fields] == ["a\\tb.jpg", "a\\nb.jpg", "\\x1b[31m.jpg", "é.jpg"]
    assert {len(line) for line in fields} == {2}
    assert err.count("\n") == 1


@pytest.mark.usefixtures("keeps_jobs")
@pytest.mark.parametrize("name", ["file:cat.jpg", "blob:cat.jpg", "FILE:cat.jpg"])
def test_a_local_file_named_like_a_reference_is_a_file(name: str, connection: redis.Redis) -> None:
    Path(name).write_bytes(b"an image")
    items = write_lines({"image": name}, {"image": "file:missing.jpg"})
    for command in (["caption", name], ["match", name, "a"], ["embed", name], ["chat", name, "?"]):
        assert run([*command, "--timeout", "0"]) == Exit.NO_RESULT
    assert run(["batch", "submit", items]) == Exit.OK
    sha = f"blob:{hashlib.sha256(b'an image').hexdigest()}"
    jobs = queued(connection, "interactive")
    assert [job["items"][0]["image"] for job in jobs] == [sha] * 4
    (chunk,) = queued(connection)
    assert [item["image"] for item in chunk["items"]] == [sha, "file:missing.jpg"]


@pytest.mark.usefixtures("workers")
def test_a_data_url_is_an_image_and_is_not_repeated_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(9000)).decode()
    assert run(["caption", url, url]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("data:image/png;base64,AAAA")
    assert len(out) < 600
