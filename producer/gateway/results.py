"""Results of a batch as lines of JSON, made page by page and as fast as they are read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ..aio import PAGE_RESULTS, AsyncBatch
from ..batch import LONGEST_PAUSE_S
from ..errors import JobUnknown
from ..job import Result
from ..patience import Patience

#: Results that are written down on the event loop: a thread would take longer.
FEW_RESULTS: Final = 32

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode

Encoded = TypeVar("Encoded")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a batch's results are read."""

    cursor: int = 0
    #: Lines at most.
    limit: int | None = None
    as_completed: bool = False
    #: Whether those that failed are all that is wanted.
    only_failed: bool = False
    #: Whether to wait for what is not there yet.
    wait: bool = False


async def lines(
    batch: AsyncBatch, reading: Reading, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    """A line for each result; ends early where the batch is deleted, or the process is to end."""
    cursor, left = reading.cursor, reading.limit
    patience = Patience(None, LONGEST_PAUSE_S)
    while left is None or left > 0:
        most = PAGE_RESULTS
        if left is not None and not reading.only_failed:
            most = min(most, left)
        try:
            page = await batch.page(cursor, as_completed=reading.as_completed, most=most)
        except JobUnknown:
            return
        cursor = page.cursor
        wanted = [one for one in page.results if not (reading.only_failed and one.ok)][:left]
        if wanted:
            left = None if left is None else left - len(wanted)
            yield await encoded(_as_lines, wanted)
        if page.over:
            return
        if page.results:
            patience = Patience(None, LONGEST_PAUSE_S)
        elif not reading.wait or await is_set_within(stopping, patience.next_pause_s() or 0.0):
            return


def line_of(result: Result) -> str:
    """A result as JSON, with its place."""
    return _encode(result.to_json() | {"index": result.index, "cursor": result.cursor})


async def encoded(encode: Callable[[Sequence[Result]], Encoded], page: list[Result]) -> Encoded:
    """Write a page down, and hold up nobody."""
    if len(page) <= FEW_RESULTS:
        return encode(page)
    return await asyncio.to_thread(encode, page)


def _as_lines(page: Sequence[Result]) -> bytes:
    return "".join(f"{line_of(result)}\n" for result in page).encode()


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
