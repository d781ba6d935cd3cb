"""Waits that an event, such as the shutdown of the process, ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait up to `seconds` for an event; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def wait_unless(event: asyncio.Event, wait: Awaitable[Result]) -> Result | None:
    """Return the result of `wait`; cancel it and return None if the event is set first.

    A cancelled `wait` has ended, so an asynchronous generator in it can be closed.
    """
    waiting, stopping = asyncio.ensure_future(wait), asyncio.create_task(event.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await waiting if waiting.done() else None
    finally:
        waiting.cancel()
        stopping.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
