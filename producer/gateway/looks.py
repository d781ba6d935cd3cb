"""Looks at batches: however many ask at one moment, Redis is asked once."""

from __future__ import annotations

import asyncio

from ..aio import AsyncBatch
from ..attendant import told
from ..errors import BliplineError
from ..progress import Progress

_Look = asyncio.Task[Progress | Exception]


class Looks:
    """For one event loop.

    Who asks while a look is under way gets the next one: it may have begun before what they did.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, _Look] = {}
        self._next: dict[str, _Look] = {}

    async def progress(self, batch: AsyncBatch) -> Progress:
        """As AsyncBatch.progress gives it."""
        look = self._next.get(batch.id)
        if look is None:
            look = self._next[batch.id] = asyncio.create_task(self._look(batch))
        # Whoever hangs up does not take it from the others.
        return told(await asyncio.shield(look))

    async def _look(self, batch: AsyncBatch) -> Progress | Exception:
        if (before := self._under_way.get(batch.id)) is not None:
            await asyncio.wait([before])
        self._under_way[batch.id] = look = self._next.pop(batch.id)
        try:
            return await batch.progress()
        except BliplineError as error:
            return error
        finally:
            if self._under_way.get(batch.id) is look:
                del self._under_way[batch.id]
