"""Results of a batch as lines: how many are sent at once."""

from __future__ import annotations

import asyncio
from typing import Any, Unpack

import pytest

from producer.batch import Page
from producer.contract import ErrorCode, ErrorPayload, ItemResult
from producer.gateway.results import PAGE_BYTES, ResultSelection, stream_results
from producer.job import Result

ITEMS = 3000


class Ended:
    """A batch that has ended, all of it."""

    def __init__(self, **said: Unpack[ItemResult]) -> None:
        self._said = said

    async def page(self, cursor: int, *, as_completed: bool, most: int) -> Page:
        last = min(cursor + most, ITEMS)
        found = [Result.of(n, self._said, n + 1) for n in range(cursor, last)]
        return Page(found, last, last == ITEMS)


def pages_of(batch: Any, **how: Any) -> list[bytes]:
    async def read() -> list[bytes]:
        return [
            page async for page in stream_results(batch, ResultSelection(**how), asyncio.Event())
        ]

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("said", "fewest", "most"),
    [
        ({"text": "a cat"}, 3, 6),
        # Some 5 KB each.
        ({"embedding": [0.0123456789012345] * 256}, 50, 100),
    ],
    ids=["captions", "embeddings"],
)
def test_so_many_bytes_are_sent_at_once(said: dict[str, Any], fewest: int, most: int) -> None:
    pages = pages_of(Ended(**said))
    assert sum(page.count(b"\n") for page in pages) == ITEMS
    assert max(map(len, pages)) <= PAGE_BYTES
    assert fewest <= len(pages) <= most


def test_a_limit_counts_lines_whatever_is_sent_at_once() -> None:
    error = ErrorPayload(code=ErrorCode.INTERNAL, message="x" * 3000)
    pages = pages_of(Ended(error=error), limit=333, only_failed=True)
    assert sum(page.count(b"\n") for page in pages) == 333
