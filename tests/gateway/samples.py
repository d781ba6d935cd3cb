"""Sample requests of the gateway tests, and readers of responses and of Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import redis

URL = "https://images.example.com/cat.jpg"
#: A caption job.
CAPTION = {"task": "caption", "image": URL}
#: The result of a description.
DESCRIPTION = {
    "text": "A cat.",
    "characters": 6,
    "words": 2,
    "candidates": [{"text": "A cat.", "prompt": "", "round": 1, "score": 0.9, "used": True}],
    "rounds": 1,
    "seconds": 0.25,
    "ranked_by": "match",
}
_WEB = {"text": "a cat", "source": "web", "probability": 0.9, "cosine": 0.4}
_SYNTHETIC = {"text": "a dog", "source": "synthetic", "probability": 0.1, "cosine": -0.2}
#: The result of CapFilt.
FILTERED = {"text": "a cat", "accepted": [_WEB], "rejected": [_SYNTHETIC]}
JSONL = {"Content-Type": "application/jsonl"}
#: Items in a chunk.
CHUNK = 32


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str | None
    data: dict[str, Any]


def body_of(count: int) -> bytes:
    """Return lines of JSON, numbered from 0."""
    return b"".join(
        b'{"custom_id": "%d", "image": "%s"}\n' % (n, URL.encode()) for n in range(count)
    )


def answers_of(number: int, total: int) -> list[dict[str, Any]]:
    """Return the results that a worker stores for a chunk of `body_of`."""
    numbers = range(number * CHUNK, min((number + 1) * CHUNK, total))
    return [{"custom_id": str(n), "text": f"text {n}"} for n in numbers]


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the lines of JSON in a response."""
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def events_of(response: httpx.Response) -> Iterator[Event]:
    """Yield events as they arrive."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line.startswith(":"):
            continue
        if line:
            fields[name] = value
        elif fields:
            yield Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
            fields = {}


def resident_mb(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process in MiB, or its peak."""
    with open(f"/proc/{pid}/status") as status:
        (size,) = re.findall(r"VmHWM:\s*(\d+)" if peak else r"VmRSS:\s*(\d+)", status.read())
    return int(size) / 1024


def bearer(key: str) -> dict[str, str]:
    """Return the header with an API key."""
    return {"Authorization": f"Bearer {key}"}


def items_in(redis_url: str, batch: str) -> list[dict[str, Any]]:
    """Return the items of a batch in Redis, in order."""
    with redis.Redis.from_url(redis_url) as connection:
        records = sorted(
            (int(key.rpartition(b":")[2]), connection.get(key))
            for key in connection.scan_iter(f"*job:acme.batch.{batch}:*")
        )
    return [
        item for _, record in records for item in json.loads(record.split(b"\n", 2)[2])["items"]
    ]


def batches_in(connection: redis.Redis) -> list[bytes]:
    """Return the keys of acme's batches in Redis."""
    return [key for key in connection.scan_iter("*batch:*", count=1000) if b"batch:acme" in key]


def untimed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a job without the times that its end determines."""
    times = ("started_at", "ended_at", "expires_at")
    return {name: value for name, value in body.items() if name not in times}
