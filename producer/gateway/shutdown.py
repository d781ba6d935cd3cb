"""Waits that are over when something happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Found = TypeVar("Found")


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def wait_unless(event: asyncio.Event, wait: Awaitable[Found]) -> Found | None:
    """What comes of a wait; None where the event came first, and the wait was given up."""
    waiting, happening = asyncio.ensure_future(wait), asyncio.create_task(event.wait())
    try:
        await asyncio.wait((waiting, happening), return_when=asyncio.FIRST_COMPLETED)
        return await waiting if waiting.done() else None
    finally:
        waiting.cancel()
        happening.cancel()
