"""Celery's settings for a Redis, and the keys that Celery uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.app.utils import filter_hidden_settings
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from demo.stack import running_redis
from producer.connection.connect import connect
from tests.redis_servers import running_sentinels

PREFIX = "captions:"
#: Commands that name no key.
KEYLESS = {"AUTH", "CLIENT", "DISCARD", "EXEC", "HELLO", "INFO", "MULTI", "PING", "SCRIPT"}
KEYLESS |= {"SELECT", "UNWATCH"}


def settings_of(redis_url: str, **more: Any) -> dict[str, Any]:
    return celery_settings(WorkerSettings(redis_url=redis_url, **more))


def test_a_plain_url_stays_as_it_is() -> None:
    settings = settings_of("redis://ann:s%40cret@[::1]:7000/3")
    assert settings["broker_url"] == "redis://ann:s%40cret@[::1]:7000/3"
    assert settings["broker_use_ssl"] is None
    assert "sentinel_kwargs" not in settings["broker_transport_options"]


def test_tls_is_configured_in_celerys_form(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    settings = settings_of(f"rediss://host?ssl_ca_certs={authority}")
    assert settings["broker_url"] == "rediss://host:6379/0"
    assert settings["broker_use_ssl"] == {
        "ssl_ca_certs": str(authority),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }
    # An empty dict would mean no TLS.
    assert settings_of("rediss://host")["broker_use_ssl"]


def test_sentinels_are_configured_in_kombus_form() -> None:
    settings = settings_of("sentinels://:a%3Bb@one,[::1]:1/2?master=m&sentinel_password=secret")
    assert settings["broker_url"] == "sentinel://:a%3Bb@one:26379/2;sentinel://:a%3Bb@[::1]:1/2"
    assert settings["broker_use_ssl"]
    options = settings["broker_transport_options"]
    assert options["master_name"] == "m"
    assert options["sentinel_kwargs"]["password"] == "secret"
    assert options["sentinel_kwargs"]["ssl"]
    connection = Connection(settings["broker_url"])
    assert (connection.password, connection.virtual_host) == ("a;b", "2")


def test_the_visibility_timeout_is_that_of_the_setting() -> None:
    options = settings_of("redis://host")["broker_transport_options"]
    assert options["visibility_timeout"] == 600
    options = settings_of("redis://host", visibility_timeout_s=8)["broker_transport_options"]
    assert options["visibility_timeout"] == 8


def test_monitors_are_shown_no_password() -> None:
    url = "sentinel://ann:secret@one,two/0?sentinel_password=secret"
    app = Celery("tests", set_as_current=False)
    app.conf.update(settings_of(url))
    shown = filter_hidden_settings(app.conf.table(with_defaults=False))
    assert "broker_url" in shown
    assert "secret" not in repr(shown)
    assert "secret" not in app.backend.as_uri()
    assert "secret" not in app.connection().as_uri()


@contextmanager
def commands_of(server: redis.Redis) -> Iterator[list[list[str]]]:
    """Record every command that the server receives within the block."""
    seen: list[list[str]] = []
    with server.monitor() as monitor:
        yield seen
        server.echo("the end")
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                return
            # Commands within scripts do not count.
            if command["client_type"] != "lua":
                seen.append(command["command"].split(" "))


def exercise_message(app: Celery) -> None:
    """Publish, deliver, requeue, acknowledge and monitor a message."""
    queue = Queue("bulk", Exchange("bulk"), routing_key="bulk")
    with app.connection() as connection:
        channel = connection.default_channel
        queue(channel).declare()
        for exchange in ("", "bulk"):
            connection.Producer(channel).publish(
                {"n": 1}, exchange=exchange, routing_key="bulk", serializer="json"
            )
            assert queue(channel).get() is not None
            channel.qos.visibility_timeout = -1
            channel.qos.restore_visible(num=10, interval=1)
            redelivered = queue(channel).get()
            assert redelivered is not None, "the message was not redelivered"
            assert redelivered.headers["redelivered"]
            redelivered.reject(requeue=True)
            last = queue(channel).get()
            assert last is not None
            last.ack()
        with connection.Consumer([queue], callbacks=[lambda _, message: message.ack()]):
            connection.Producer(channel).publish({"n": 2}, routing_key="bulk", serializer="json")
            connection.drain_events(timeout=10)
        events: list[str] = []
        receiver = app.events.Receiver(
            connection, {"*": lambda event: events.append(event["type"])}
        )
        with receiver.consumer_context() as (listening, _, _):
            # The receiver subscribes with its first read.
            with suppress(TimeoutError):
                listening.drain_events(timeout=0.2)
            app.events.Dispatcher(connection).send("task-tested")
            listening.drain_events(timeout=10)
        assert events == ["task-tested"]
        app.control.inspect(timeout=0.1, connection=connection).ping()
        queue(channel).delete()


@pytest.mark.parametrize("by_sentinel", [False, True])
def test_every_key_that_celery_names_begins_with_the_prefix(
    tmp_path: Path, by_sentinel: bool
) -> None:
    # A server of its own: all of its commands count.
    if by_sentinel:
        with running_sentinels(tmp_path, sentinels=1) as servers:
            check_prefixes(servers.url)
    else:
        with running_redis() as url:
            check_prefixes(url)


def check_prefixes(url: str) -> None:
    app = Celery("tests", set_as_current=False)
    app.conf.update(settings_of(url, key_prefix=PREFIX))
    with connect(url) as server, commands_of(server) as commands:
        exercise_message(app)
        app.backend.get_task_meta("1")
        keys = server.keys("*")
    assert keys
    named = {command[0] for command in commands} - KEYLESS
    assert named >= {"BRPOP", "GET", "HSET", "LPUSH", "PSUBSCRIBE", "PUBLISH", "RPUSH", "ZRANGE"}
    for command in commands:
        if command[0] in named - {"KEYS"}:
            key = command[3] if command[0] == "EVALSHA" else command[1]
            assert key.startswith(PREFIX), command
    app.backend.client.close()
    app.close()
