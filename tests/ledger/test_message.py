"""Celery messages and events: the same fields as those that Celery itself writes."""

from __future__ import annotations

import base64
import json
from typing import Any

import redis
from celery import Celery

from producer import Queue
from producer.contract import Task
from producer.ledger.message import event_channel, sent_event, task_message


def test_a_message_has_the_fields_of_celerys_own(redis_url: str, connection: redis.Redis) -> None:
    with Celery("tests", broker=redis_url, set_as_current=False) as app:
        app.send_task("blipline.vqa", task_id="1", queue="bulk", kwargs={}, kwargsrepr="x")
    message: Any = connection.lpop("bulk")
    theirs = json.loads(message)
    ours = json.loads(task_message("1", Task.VQA, Queue.BULK, "x"))
    for name, value in ours["headers"].items():
        if name not in ("origin", "argsrepr", "entry"):
            assert theirs["headers"][name] == value, name
    assert ours["body"] == theirs["body"]
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    for name in ("correlation_id", "delivery_info", "priority", "body_encoding"):
        assert ours["properties"][name] == theirs["properties"][name]


def test_a_sent_event_has_the_fields_of_celerys_own(
    redis_url: str, connection: redis.Redis
) -> None:
    with (
        connection.pubsub(ignore_subscribe_messages=True) as listener,
        Celery("tests", broker=redis_url, set_as_current=False) as app,
    ):
        listener.subscribe(event_channel("", 0))
        listener.get_message(timeout=5)
        app.conf.task_send_sent_event = True
        app.send_task("blipline.vqa", task_id="1", queue="bulk", kwargs={}, kwargsrepr="x")
        message = listener.get_message(timeout=5)
    assert message is not None
    theirs = json.loads(message["data"])
    ours = json.loads(sent_event("1", Task.VQA, Queue.BULK, "x"))
    assert list(ours) == list(theirs)
    ours, theirs = (json.loads(base64.b64decode(event["body"])) for event in (ours, theirs))
    for name in ("type", "uuid", "root_id", "name", "kwargs", "retries", "queue", "routing_key"):
        assert ours[name] == theirs[name], name
    assert set(ours) <= set(theirs)
