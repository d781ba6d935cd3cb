"""Results of a batch as a stream of JSON lines, encoded page by page as the client reads them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect

from ...aio.handles import PAGE_RESULTS, AsyncBatch
from ...batch import MAX_DELAY_S
from ...errors import BliplineError
from ...job import Result
from ...polling import PollSchedule
from ..http.logs import LOGGER
from ..http.shutdown import is_set_within

#: Maximum results of a page that is encoded on the event loop: a thread would take longer.
FEW_RESULTS: Final = 32
#: Approximate bytes of lines that are sent at once, and buffered for a slow reader. An embedding
#: takes about 5 KB, a caption 100 bytes.
PAGE_BYTES: Final = 256 * 1024

#: Seconds between heartbeats: proxies close connections that are idle for a minute.
HEARTBEAT_S: Final = 15.0
#: A heartbeat. JSON allows spaces before a value, so they belong to the next line, and readers that
#: parse each line need not skip empty ones.
HEARTBEAT: Final = b" "

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode

Encoded = TypeVar("Encoded")


@dataclass(frozen=True, slots=True)
class ResultSelection:
    """Selection and order of the results to stream."""

    cursor: int = 0
    #: Maximum number of lines.
    limit: int | None = None
    as_completed: bool = False
    only_failed: bool = False
    #: True to wait for results until the end of the batch.
    wait: bool = False


async def stream_results(
    batch: AsyncBatch,
    selection: ResultSelection,
    stopping: asyncio.Event,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[bytes]:
    """Yield pages of lines, one line for each result.

    While it waits, it yields a heartbeat every `heartbeat_s` seconds. Raises ClientDisconnect if
    the batch is deleted, Redis fails, or the process shuts down. It closes the connection without
    the end of the body, so a response with a regular end is complete.
    """
    cursor, remaining = selection.cursor, selection.limit
    schedule, page_results = PollSchedule(None, MAX_DELAY_S), FEW_RESULTS
    last_sent = time.monotonic()
    while remaining is None or remaining > 0:
        limit = page_results
        if remaining is not None and not selection.only_failed:
            limit = min(limit, remaining)
        try:
            page = await batch.page(cursor, as_completed=selection.as_completed, most=limit)
        except BliplineError as error:
            raise _abort(str(error)) from None
        cursor = page.cursor
        matching = [result for result in page.results if not (selection.only_failed and result.ok)]
        selected = matching[:remaining]
        if selected:
            remaining = None if remaining is None else remaining - len(selected)
            lines = await encode_page(_as_lines, selected)
            page_results = _page_results(len(lines) / len(selected))
            yield lines
            last_sent = time.monotonic()
        if page.over:
            return
        if page.results:
            schedule = PollSchedule(None, MAX_DELAY_S)
        elif not selection.wait:
            return
        elif await is_set_within(stopping, schedule.next_delay_s() or 0.0):
            raise _abort("the gateway is shutting down")
        if time.monotonic() - last_sent >= heartbeat_s:
            yield HEARTBEAT
            last_sent = time.monotonic()


def result_line(result: Result) -> str:
    """Return a result as JSON, with its index and cursor."""
    return _encode(result.to_json() | {"index": result.index, "cursor": result.cursor})


async def encode_page(encode: Callable[[Sequence[Result]], Encoded], page: list[Result]) -> Encoded:
    """Encode a page, in a thread if it is large."""
    if len(page) <= FEW_RESULTS:
        return encode(page)
    return await asyncio.to_thread(encode, page)


def _page_results(line_bytes: float) -> int:
    """Return the results of a page of PAGE_BYTES, in multiples of a chunk's usual size."""
    chunks = int(PAGE_BYTES / line_bytes) // FEW_RESULTS
    return min(max(1, chunks) * FEW_RESULTS, PAGE_RESULTS)


def _abort(reason: str) -> ClientDisconnect:
    LOGGER.warning("result stream aborted: %s", reason)
    return ClientDisconnect()


def _as_lines(page: Sequence[Result]) -> bytes:
    return "".join(f"{result_line(result)}\n" for result in page).encode()
