"""Results of a batch as JSON lines, in pages of bounded size."""

from __future__ import annotations

import asyncio
from typing import Any, Unpack

import pytest

from producer.batch import Page
from producer.contract import ErrorCode, ErrorPayload, ItemResult
from producer.gateway.results import PAGE_BYTES, ResultSelection, stream_results
from producer.job import Result

ITEMS = 3000


class EndedBatch:
    """An ended batch whose items have the same result."""

    def __init__(self, **result: Unpack[ItemResult]) -> None:
        self._result = result

    async def page(self, cursor: int, **options: Any) -> Page:
        last = min(cursor + options["most"], ITEMS)
        results = [Result.of(n, self._result, n + 1) for n in range(cursor, last)]
        return Page(results, last, last == ITEMS)


def pages_of(batch: Any, **selection: Any) -> list[bytes]:
    async def read() -> list[bytes]:
        return [
            page
            async for page in stream_results(batch, ResultSelection(**selection), asyncio.Event())
        ]

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("result", "min_pages", "max_pages"),
    [
        ({"text": "a cat"}, 3, 6),
        # About 5 KB each.
        ({"embedding": [0.0123456789012345] * 256}, 50, 100),
    ],
    ids=["captions", "embeddings"],
)
def test_pages_have_a_bounded_size(result: dict[str, Any], min_pages: int, max_pages: int) -> None:
    pages = pages_of(EndedBatch(**result))
    assert sum(page.count(b"\n") for page in pages) == ITEMS
    assert max(map(len, pages)) <= PAGE_BYTES
    assert min_pages <= len(pages) <= max_pages


def test_a_limit_counts_lines() -> None:
    error = ErrorPayload(code=ErrorCode.INTERNAL, message="x" * 3000)
    pages = pages_of(EndedBatch(error=error), limit=333, only_failed=True)
    assert sum(page.count(b"\n") for page in pages) == 333
