"""Looks at a batch that many want at once."""

from __future__ import annotations

import asyncio
from typing import Any

from producer import ConnectionFailed
from producer.gateway.broadcast import ProgressReader


def test_looks_of_one_moment_are_one_and_none_is_too_old() -> None:
    class Batch:
        id = "one"

        def __init__(self) -> None:
            self.begun = 0
            self.may_end = asyncio.Event()

        async def progress(self) -> int:
            self.begun += 1
            mine = self.begun
            await self.may_end.wait()
            if mine == 3:
                raise ConnectionFailed("away")
            return mine

    async def look() -> None:
        looks: Any = ProgressReader()
        batch = Batch()

        async def ask(count: int) -> list[asyncio.Task[int]]:
            asked = [asyncio.create_task(looks.progress(batch)) for _ in range(count)]
            for _ in range(5):
                await asyncio.sleep(0)
            # Whoever hangs up does not take it from the others.
            asked.pop().cancel()
            return asked

        first = await ask(50)
        # One is under way: what was done since it began must be seen.
        later = await ask(50) + await ask(50)
        assert batch.begun == 1
        batch.may_end.set()
        assert {await one for one in first} == {1}
        assert {await one for one in later} == {2}
        failed = await asyncio.gather(*await ask(3), return_exceptions=True)
        assert [type(one) for one in failed] == [ConnectionFailed] * 2
        assert await looks.progress(batch) == 4
        assert not looks._next
        assert not looks._under_way

    asyncio.run(look())
