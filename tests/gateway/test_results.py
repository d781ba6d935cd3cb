"""Results of a batch as JSON lines, in pages of bounded size."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any, Unpack

import pytest

from producer.batch import Page
from producer.contract import ErrorCode, ErrorPayload, ItemResult
from producer.gateway.batches.results import HEARTBEAT, PAGE_BYTES, ResultSelection, stream_results
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


def pages_of(batch: Any, heartbeat_s: float = 60.0, **selection: Any) -> list[bytes]:
    async def read() -> list[bytes]:
        parsed = ResultSelection(**selection)
        return [page async for page in stream_results(batch, parsed, asyncio.Event(), heartbeat_s)]

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


class WaitingBatch:
    """A batch whose single result, or its end alone, follows after empty pages."""

    def __init__(self, empty_pages: int, results: int = 1) -> None:
        self._remaining = empty_pages
        self._results = [Result.of(n, {"text": "a cat"}, n + 1) for n in range(results)]

    async def page(self, cursor: int, **options: Any) -> Page:
        self._remaining -= 1
        return Page([], cursor) if self._remaining >= 0 else Page(self._results, cursor + 1, True)


@pytest.mark.parametrize("results", [0, 1])
def test_a_stream_that_waits_sends_heartbeats_that_readers_ignore(results: int) -> None:
    pages = pages_of(WaitingBatch(4, results), heartbeat_s=0.0, wait=True)
    body = b"".join(pages)
    assert pages[:4] == [HEARTBEAT] * 4
    # Readers that parse each line, skip empty ones, or read values one after another.
    lines = [json.loads(line) for line in io.BytesIO(body) if line.strip()]
    assert [line["text"] for line in lines] == ["a cat"] * results
    assert body.count(b"\n") == results
    assert [json.loads(line)["index"] for line in body.splitlines()[:results]] == [*range(results)]


def test_a_stream_of_errors_sends_heartbeats_among_results_that_it_omits() -> None:
    pages = pages_of(EndedBatch(text="a cat"), heartbeat_s=0.0, only_failed=True)
    assert set(pages) == {HEARTBEAT}


def test_results_that_arrive_in_time_need_no_heartbeat() -> None:
    assert HEARTBEAT not in pages_of(WaitingBatch(2), wait=True)
