"""Celery messages in the format of kombu's Redis transport.

They follow Celery's message protocol, version 2
(https://docs.celeryq.dev/en/stable/internals/protocol.html). This module builds them instead of
kombu, so that a message and its job record are stored in one step and half the memory: only the
record contains the payload, and the consumer reads it there.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import time
import uuid
from functools import cache
from typing import Any, Final

from ..contract import Queue, Task
from ..observability.tracing import traceparent


def _body(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


#: No arguments, no keyword arguments, no callbacks.
_NO_ARGUMENTS: Final = _body(
    [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
)


@cache
def _host() -> str:
    return socket.gethostname()


def task_message(
    task_id: str, task: Task, queue: Queue, summary: str, deadline_s: float | None = None
) -> str:
    """Return the message of a job record; Flower shows `summary`.

    The ledger counts `deadline_s` from the submission, by Redis's clock.
    """
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task.value,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "argsrepr": "",
        "kwargsrepr": summary,
        "origin": _origin(),
        # A header of Blipline: the generation of the job record.
        "entry": secrets.token_hex(6),
    }
    if (trace := traceparent()) is not None:
        headers["traceparent"] = trace
    if deadline_s is not None:
        headers["deadline_s"] = round(deadline_s, 3)
    return _envelope(_NO_ARGUMENTS, headers, "", queue.value, task_id)


def sent_event(task_id: str, task: Task, queue: Queue, summary: str) -> str:
    """Return the event that makes Flower show a queued job."""
    event = {
        "type": "task-sent",
        "uuid": task_id,
        "root_id": task_id,
        "parent_id": None,
        "name": task.value,
        "args": "",
        "kwargs": summary,
        "retries": 0,
        "eta": None,
        "expires": None,
        "queue": queue.value,
        "exchange": "",
        "routing_key": queue.value,
        "hostname": _origin(),
        "pid": os.getpid(),
        "clock": 0,
        "utcoffset": time.timezone // 3600,
        "timestamp": time.time(),
    }
    return _envelope(_body(event), {"hostname": _origin()}, "celeryev", "task.sent", "")


def event_channel(prefix: str, database: int) -> str:
    """Return the channel of the events that monitors receive."""
    return f"{prefix}/{database}.celeryev/task.sent"


def _origin() -> str:
    return f"gen{os.getpid()}@{_host()}"


def _envelope(
    body: str, headers: dict[str, Any], exchange: str, routing_key: str, correlation_id: str
) -> str:
    properties = {
        "correlation_id": correlation_id,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    message = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(message, separators=(",", ":"))
