"""Isolation of failures: a request is repeated with halves of its elements."""

from __future__ import annotations

from typing import Any

import redis

from producer import (
    ConnectionFailed,
)
from producer.ledger.isolation import isolate_failures


def test_halving_isolates_a_failing_element() -> None:
    requests: list[list[int]] = []

    def request(elements: Any) -> list[int]:
        requests.append(list(elements))
        if 3 in elements:
            raise ValueError(3)
        return [element * 2 for element in elements]

    answers = isolate_failures(request, range(4))
    assert [str(answer) for answer in answers] == ["0", "2", "4", "3"]
    assert requests == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert isolate_failures(request, ()) == []


def test_halving_stops_when_redis_is_unreachable() -> None:
    requests = []

    def request(elements: Any) -> list[Any]:
        requests.append(elements)
        raise ConnectionFailed("away") from redis.ConnectionError("away")

    assert len(isolate_failures(request, range(9))) == 9
    assert len(requests) == 1
