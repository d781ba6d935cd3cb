"""What many want at one moment."""

from __future__ import annotations

import asyncio

import pytest

from producer.aio.batching import SingleFlight
from producer.errors import ConnectionFailed


def test_what_many_want_at_one_moment_is_made_once() -> None:
    made: list[str] = []

    async def make() -> int:
        made.append("")
        await asyncio.sleep(0)
        return len(made)

    async def run() -> None:
        once: SingleFlight[str, int] = SingleFlight()
        assert await asyncio.gather(*(once.get("a", make) for _ in range(5))) == [1] * 5
        # It is over: the next one wants it anew.
        assert await once.get("a", make) == 2
        assert sorted(await asyncio.gather(once.get("a", make), once.get("b", make))) == [4, 4]

    asyncio.run(run())


def test_all_are_told_what_went_wrong_and_the_next_tries_again() -> None:
    tries: list[str] = []

    async def fail() -> int:
        tries.append("")
        await asyncio.sleep(0)
        raise ConnectionFailed("away")

    async def run() -> None:
        once: SingleFlight[str, int] = SingleFlight()
        found = await asyncio.gather(
            *(once.get("a", fail) for _ in range(3)), return_exceptions=True
        )
        assert [str(error) for error in found] == ["away"] * 3
        assert len({id(error) for error in found}) == 3
        with pytest.raises(ConnectionFailed):
            await once.get("a", fail)
        assert len(tries) == 2

    asyncio.run(run())


def test_who_gives_up_takes_it_from_nobody() -> None:
    async def run() -> None:
        once: SingleFlight[str, str] = SingleFlight()
        open_it = asyncio.Event()

        async def make() -> str:
            await open_it.wait()
            return "made"

        first, second = (asyncio.create_task(once.get("a", make)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        open_it.set()
        assert await second == "made"
        assert first.cancelled()

    asyncio.run(run())


def test_once_nobody_wants_it_any_more_it_is_not_made() -> None:
    async def run() -> None:
        once: SingleFlight[str, str] = SingleFlight()

        async def never() -> str:
            await asyncio.Event().wait()
            return ""

        waiting = asyncio.create_task(once.get("a", never))
        await asyncio.sleep(0)
        once.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
