"""Malformed messages in the shell. tests/producer/test_dead_letters.py covers jobs."""

from __future__ import annotations

import base64
import json

import pytest
import redis

from producer import Client, InvalidInput, JobUnknown, MalformedMessage
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.malformed import MalformedMessages

DATA = b'{"task":\n\xff'


@pytest.fixture
def message(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, connection: redis.Redis
) -> MalformedMessage:
    """The only dead letter."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    return MalformedMessages(connection).add("bulk", DATA, "KeyError:\tproperties")


def test_the_list_has_a_line_for_a_malformed_message(
    message: MalformedMessage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", "list"]) == Exit.OK
    (line,) = capsys.readouterr().out.splitlines()
    fields = line.split("\t")
    assert fields[0] == message.id
    assert fields[2:] == ["bulk", "malformed", "10 bytes", "KeyError: properties"]


def test_its_json_has_the_fields_of_a_dead_letter(
    message: MalformedMessage, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["list", "--json"], ["show", message.id, "--json"]):
        assert run(["dead", *command]) == Exit.OK
        (line,) = capsys.readouterr().out.splitlines()
        letter = json.loads(line)
        assert (letter["id"], letter["queue"], letter["died"]) == (message.id, "bulk", [])
        assert base64.b64decode(letter["message"]["base64"]) == DATA


def test_show_prints_its_bytes(
    message: MalformedMessage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", "show", message.id]) == Exit.OK
    out = capsys.readouterr().out
    assert "size   10 bytes\nreason KeyError: properties\n" in out
    assert repr(DATA) in out


def test_a_retry_names_the_remedy_and_changes_nothing(
    message: MalformedMessage, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["dead", "retry", message.id]) == Exit.USAGE
    assert "cannot be retried" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="submit the job again"):
        client.dead.retry(message.id)
    assert run(["dead", "retry", "--all"]) == Exit.OK
    assert capsys.readouterr().out == "0\n"
    assert client.dead.messages() == [message]


def test_it_is_purged(
    message: MalformedMessage, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(JobUnknown):
        client.dead.purge([message.id, "malformed:nobody"])
    assert run(["dead", "purge", message.id]) == Exit.OK
    assert client.dead.messages() == []
    assert run(["dead", "purge", "--all"]) == Exit.OK
    assert capsys.readouterr().out == "1\n0\n"
    assert run(["dead", "show", message.id]) == Exit.USAGE
