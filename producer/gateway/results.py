"""Results of a batch as lines of JSON, made page by page and as fast as they are read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect

from ..aio.client import PAGE_RESULTS, AsyncBatch
from ..batch import LONGEST_PAUSE_S
from ..errors import BliplineError
from ..job import Result
from ..polling import PollSchedule
from .logs import LOGGER
from .shutdown import is_set_within

#: Results that are written down on the event loop: a thread would take longer.
FEW_RESULTS: Final = 32
#: Bytes of lines that are sent at once, about: so much of an answer is held for a slow reader. An
#: embedding has some 5 KB, a caption 100 bytes.
PAGE_BYTES: Final = 256 * 1024

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode

Encoded = TypeVar("Encoded")


@dataclass(frozen=True, slots=True)
class ResultStream:
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
    batch: AsyncBatch, reading: ResultStream, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    """A line for each result.

    Raises ClientDisconnect, which breaks the connection off, where the batch is deleted, Redis goes
    away, or the process is to end: an answer that ends as it should must be all of it.
    """
    cursor, left = reading.cursor, reading.limit
    patience, fitting = PollSchedule(None, LONGEST_PAUSE_S), FEW_RESULTS
    while left is None or left > 0:
        most = fitting
        if left is not None and not reading.only_failed:
            most = min(most, left)
        try:
            page = await batch.page(cursor, as_completed=reading.as_completed, most=most)
        except BliplineError as error:
            raise _cut_short(str(error)) from None
        cursor = page.cursor
        wanted = [one for one in page.results if not (reading.only_failed and one.ok)][:left]
        if wanted:
            left = None if left is None else left - len(wanted)
            text = await encoded(_as_lines, wanted)
            fitting = _fitting(len(text) / len(wanted))
            yield text
        if page.over:
            return
        if page.results:
            patience = PollSchedule(None, LONGEST_PAUSE_S)
        elif not reading.wait:
            return
        elif await is_set_within(stopping, patience.next_delay_s() or 0.0):
            raise _cut_short("this process is to end")


def line_of(result: Result) -> str:
    """A result as JSON, with its place."""
    return _encode(result.to_json() | {"index": result.index, "cursor": result.cursor})


async def encoded(encode: Callable[[Sequence[Result]], Encoded], page: list[Result]) -> Encoded:
    """Write a page down, and hold up nobody."""
    if len(page) <= FEW_RESULTS:
        return encode(page)
    return await asyncio.to_thread(encode, page)


def _fitting(line_bytes: float) -> int:
    """How many results to send at once, where their lines are so long: whole chunks, mostly."""
    chunks = int(PAGE_BYTES / line_bytes) // FEW_RESULTS
    return min(max(1, chunks) * FEW_RESULTS, PAGE_RESULTS)


def _cut_short(why: str) -> ClientDisconnect:
    LOGGER.warning("results were broken off: %s", why)
    return ClientDisconnect()


def _as_lines(page: Sequence[Result]) -> bytes:
    return "".join(f"{line_of(result)}\n" for result in page).encode()
