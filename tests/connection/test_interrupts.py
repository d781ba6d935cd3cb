"""Interrupts between a command and its reply: the next command reads its own reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded
from redis.connection import Connection

from producer.connection.connect import connect

#: A command whose reply comes after the next command has been sent.
SLOW = ("BLPOP", "nothing", "0.3")


def run_command(client: redis.Redis) -> None:
    client.execute_command(*SLOW)


def run_pipeline(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command(*SLOW)
        pipeline.execute_command(*SLOW)
        pipeline.execute()


def run_transaction(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.set("a", "b")
        pipeline.execute()


@pytest.mark.parametrize("run", [run_command, run_pipeline, run_transaction])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, SoftTimeLimitExceeded])
@pytest.mark.parametrize("handled", [False, True])
def test_the_command_after_an_interrupt_reads_its_own_reply(
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[redis.Redis], None],
    error: type[BaseException],
    handled: bool,
) -> None:
    client = connect(redis_url, max_connections=1)
    client.set("x", "mine")
    send = Connection.send_packed_command

    def send_and_interrupt(self: Connection, *arguments: Any, **options: Any) -> None:
        send(self, *arguments, **options)
        raise error

    def handle_an_error() -> None:
        try:
            raise ValueError
        except ValueError:
            run(client)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send_packed_command", send_and_interrupt)
        with pytest.raises(error):
            handle_an_error() if handled else run(client)
    assert client.get("x") == b"mine"


def test_an_error_that_is_handled_meanwhile_closes_no_connection(redis_url: str) -> None:
    client = connect(redis_url, max_connections=1)
    number = client.client_id()
    try:
        raise KeyError
    except KeyError:
        client.set("x", "1")
        with pytest.raises(redis.ResponseError):
            client.incr("x", "no number")  # type: ignore[arg-type]
    assert client.client_id() == number


def test_a_server_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(redis.ConnectionError):
        connect("redis://127.0.0.1:1/0").ping()
