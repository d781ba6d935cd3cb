"""Generated messages that no consumer can process, and keys of a wrong type."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import redis

from producer.contract import Queue, Task

#: Values of every JSON type, as headers, properties and bodies.
VALUES: Final[tuple[Any, ...]] = (None, True, 7, 1.5, "text", [1], {"a": 1}, [], {}, "")
#: Deeper than Python's recursion limit.
DEPTH: Final = 100_000


def encode(body: bytes) -> str:
    """Return the body of a message, in the encoding of kombu."""
    return base64.b64encode(body).decode()


def valid(queue: Queue, number: int = 0) -> dict[str, Any]:
    """Return a well-formed message of plain Celery, a job without items."""
    return {
        "body": encode(json.dumps([[], {}, {}]).encode()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": Task.CAPTION.value, "id": f"hostile-{queue}-{number}"},
        "properties": {
            "correlation_id": "c",
            "delivery_info": {"exchange": "", "routing_key": queue.value},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{queue}-{number}",
        },
    }


@cache
def _bomb() -> str:
    """Return a small compressed body that expands to more than a consumer accepts."""
    return encode(zlib.compress(b" " * (65 << 20)))


def malformed_messages(queue: Queue) -> Iterator[tuple[str, bytes]]:
    """Yield a name and the bytes of each message."""
    yield from _raw_messages()
    for number, (name, changes) in enumerate(_changes()):
        message = valid(queue, number)
        for path, value in changes.items():
            _change(message, path.split("/"), value)
        yield name, json.dumps(message).encode()


def _raw_messages() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "not json", b"{hello"
    yield "binary", bytes(range(256))
    yield "not utf-8", b'{"body": "\xff\xfe"}'
    yield "pickle", pickle.dumps({"task": "x"})
    yield "deep list", b"[" * DEPTH + b"]" * DEPTH
    yield "deep object", b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
    yield "unknown type tag", b'{"__type__": "nothing", "__value__": 1}'
    yield "huge number", b"1" * 5000
    for value in VALUES:
        yield f"json {value!r}", json.dumps(value).encode()


#: A change that removes a part.
_ABSENT: Final = object()


def _changes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a name and the changes of a valid message."""
    value: Any
    for part in ("body", "content-type", "headers", "properties"):
        yield f"no {part}", {part: _ABSENT}
    for part in ("delivery_info", "delivery_tag", "body_encoding"):
        yield f"no {part}", {f"properties/{part}": _ABSENT}
    for part in ("exchange", "routing_key"):
        yield f"no {part}", {f"properties/delivery_info/{part}": _ABSENT}
    yield "task null", {"headers/task": None}
    yield "no id", {"headers/id": _ABSENT}
    yield "no task", {"headers/task": _ABSENT}
    for value in (7, [1], {"a": 1}, "text"):
        for part in ("headers", "properties", "properties/delivery_info"):
            yield f"{part} {value!r}", {part: value}
    for value in (None, True, [1], {"a": 1}):
        yield f"delivery_tag {value!r}", {"properties/delivery_tag": value}
        yield f"id {value!r}", {"headers/id": value}
    for value in ([1], {"a": 1}, 7):
        yield f"task {value!r}", {"headers/task": value}
        yield f"body {value!r}", {"body": value}
        yield f"content-type {value!r}", {"content-type": value}
        yield f"body_encoding {value!r}", {"properties/body_encoding": value}
        yield f"eta {value!r}", {"headers/eta": value}
        yield f"expires {value!r}", {"headers/expires": value}
    for value in ("text", {"a": 1}, [1], ["a", "b"], [1, 2, 3], 5):
        yield f"timelimit {value!r}", {"headers/timelimit": value}
    for value in ("tomorrow", "0001-01-01T00:00:00+23:59", "9999-99-99"):
        yield f"eta {value}", {"headers/eta": value}
        yield f"expires {value}", {"headers/expires": value}
    for value in ("text", [1], {"a": 1}):
        yield f"retries {value!r}", {"headers/retries": value}
    for name in ("root_id", "group", "shadow", "kwargsrepr"):
        yield f"{name} list", {f"headers/{name}": [1]}
    for name in ("_children", "children", "get", "update", "as_execution_options", "__class__"):
        yield f"reserved {name}", {f"headers/{name}": True}
        yield f"reserved {name} 2", {"body": encode(json.dumps([[], {}, {name: True}]).encode())}
    for name in ("group_index", "ignore_result", "headers", "replaced_task_nesting"):
        yield f"{name} of a text", {f"headers/{name}": "text"}
    yield "body not base64", {"body": "%%%"}
    yield "body encoding unknown", {"properties/body_encoding": "rot13"}
    for kind in ("application/x-python-serialize", "application/x-yaml", "application/x-msgpack"):
        yield kind, {"content-type": kind, "content-encoding": "binary"}
    yield "content-type unknown", {"content-type": "image/png"}
    yield "compression unknown", {"headers/compression": "application/x-nothing"}
    yield "compression garbage", {"headers/compression": "application/x-gzip"}
    yield "compression list", {"headers/compression": [1]}
    yield "compression bomb", {"headers/compression": "application/x-gzip", "body": _bomb()}
    for value in VALUES:
        yield f"body of {value!r}", {"body": encode(json.dumps(value).encode())}
    for value in ([[], {}], [[], {}, {}, 1], ["text", {}, {}], [[], [1], {}], [{}, [], {}]):
        yield f"body of {value!r}", {"body": encode(json.dumps(value).encode())}
    for value in ("text", [1], 7):
        yield f"callbacks {value!r}", {"body": encode(json.dumps([[], {}, value]).encode())}
    for name in ("callbacks", "errbacks", "chain", "chord"):
        embedded = {name: 7}
        yield f"{name} 7", {"body": encode(json.dumps([[], {}, embedded]).encode())}
    yield "deep body", {"body": encode(b"[" * DEPTH + b"]" * DEPTH)}
    yield "body not utf-8", {"body": encode(b"[[], {}, {\xff}]")}
    yield "body not json", {"body": encode(b"hello")}


def odd_messages(queue: Queue, items: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield a name and the bytes of unusual messages that can be processed, with these items."""
    body = encode(json.dumps([[], {"items": items}, None]).encode())
    packed = encode(zlib.compress(json.dumps([[items], {}, {}]).encode()))
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "negative priority": {"properties/priority": -5},
        "priority of a text": {"properties/priority": "high"},
        "priority of a list": {"properties/priority": [1]},
        "charset unknown": {"content-encoding": "klingon"},
        "further headers": {"headers/trace": {"a": [1]}, "headers/entry_2": [1]},
        "delivery tag 7": {"properties/delivery_tag": 7},
        "eta in the past": {"headers/eta": "2020-01-01T00:00:00+00:00"},
        "compressed": {"headers/compression": "application/x-gzip", "body": packed},
        "no correlation id": {"properties/correlation_id": _ABSENT},
    }
    for number, (name, change) in enumerate(changes.items(), 1000):
        message = valid(queue, number)
        for path, value in {"body": body, **change}.items():
            _change(message, path.split("/"), value)
        yield name, json.dumps(message).encode()
    first = {"task": Task.CAPTION.value, "id": f"hostile-{queue}-1100", "args": [items]}
    message = valid(queue, 1100) | {"headers": {}, "body": encode(json.dumps(first).encode())}
    yield "protocol 1", json.dumps(message).encode()


def _change(message: Any, path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        message = message[name]
    if value is _ABSENT:
        del message[last]
    else:
        message[last] = value


def wrong_types(connection: redis.Redis, name: str) -> Iterator[str]:
    """Store values of every other type than list under this key, one after the other."""
    for kind, store in (
        ("string", lambda: connection.set(name, "x")),
        ("hash", lambda: connection.hset(name, "a", "b")),
        ("set", lambda: connection.sadd(name, "a")),
        ("zset", lambda: connection.zadd(name, {"a": 1})),
        ("stream", lambda: connection.xadd(name, {"a": "b"})),
    ):
        connection.delete(name)
        store()
        yield kind
