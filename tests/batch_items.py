"""Batches of the tests: items, results, and the payloads of job records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis

from producer.ledger.ledger import Ledger

#: Stores the results of a chunk as a worker does.
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def urls(count: int) -> Iterator[str]:
    """Yield URLs of images."""
    return (f"https://images.example.com/{number}.jpg" for number in range(count))


def texts(first: int, count: int) -> list[dict[str, Any]]:
    """Return results whose texts are consecutive numbers."""
    return [{"text": str(first + offset)} for offset in range(count)]


def payloads(connection: redis.Redis, *ids: str) -> list[Any]:
    """Read the payloads of jobs."""
    records = Ledger(connection).records(ids)
    return [json.loads(record.payload) for record in records if record is not None]
