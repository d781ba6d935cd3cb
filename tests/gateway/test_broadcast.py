"""Shared reads of a batch's progress."""

from __future__ import annotations

import asyncio
from typing import Any

from producer import ConnectionFailed
from producer.gateway.batches.broadcast import ProgressReader


def test_simultaneous_reads_are_shared_and_never_stale() -> None:
    class Batch:
        id = "one"

        def __init__(self) -> None:
            self.started = 0
            self.may_end = asyncio.Event()

        async def progress(self) -> int:
            self.started += 1
            number = self.started
            await self.may_end.wait()
            if number == 3:
                raise ConnectionFailed("down")
            return number

    async def read() -> None:
        reader: Any = ProgressReader()
        batch = Batch()

        async def start(count: int) -> list[asyncio.Task[int]]:
            tasks = [asyncio.create_task(reader.progress(batch)) for _ in range(count)]
            for _ in range(5):
                await asyncio.sleep(0)
            # A cancelled request does not cancel the others.
            tasks.pop().cancel()
            return tasks

        first = await start(50)
        # A read is in progress: later requests need a newer one.
        later = await start(50) + await start(50)
        assert batch.started == 1
        batch.may_end.set()
        assert {await task for task in first} == {1}
        assert {await task for task in later} == {2}
        failed = await asyncio.gather(*await start(3), return_exceptions=True)
        assert [type(task) for task in failed] == [ConnectionFailed] * 2
        assert await reader.progress(batch) == 4
        assert not reader._next
        assert not reader._current

    asyncio.run(read())
