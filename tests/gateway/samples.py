"""What tests of the gateway ask, and readers of what they are answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

URL = "https://images.example.com/cat.jpg"
#: A job.
CAPTION = {"task": "caption", "image": URL}
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
    """Lines of JSON, numbered from 0."""
    return b"".join(
        b'{"custom_id": "%d", "image": "%s"}\n' % (n, URL.encode()) for n in range(count)
    )


def answers_of(number: int, total: int) -> list[dict[str, Any]]:
    """What a worker stores for a chunk of that body."""
    place = range(number * CHUNK, min((number + 1) * CHUNK, total))
    return [{"custom_id": str(n), "text": f"text {n}"} for n in place]


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Lines of JSON in an answer."""
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def events_of(response: httpx.Response) -> Iterator[Event]:
    """Events as they come."""
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


def resident_mb(pid: int, *, most: bool = False) -> float:
    """MiB that a process holds now, or held at most."""
    with open(f"/proc/{pid}/status") as status:
        (found,) = re.findall(r"VmHWM:\s*(\d+)" if most else r"VmRSS:\s*(\d+)", status.read())
    return int(found) / 1024


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}
