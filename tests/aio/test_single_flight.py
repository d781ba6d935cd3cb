"""Single flight: concurrent requests for the same key share one call."""

from __future__ import annotations

import asyncio

import pytest

from producer.aio.single_flight import SingleFlight
from producer.errors import ConnectionFailed


def test_equal_requests_of_one_moment_share_a_call() -> None:
    made: list[str] = []

    async def make() -> int:
        made.append("")
        await asyncio.sleep(0)
        return len(made)

    async def run() -> None:
        once: SingleFlight[str, int] = SingleFlight()
        assert await asyncio.gather(*(once.get("a", make) for _ in range(5))) == [1] * 5
        # The call has ended: the next request starts a new one.
        assert await once.get("a", make) == 2
        assert sorted(await asyncio.gather(once.get("a", make), once.get("b", make))) == [4, 4]

    asyncio.run(run())


def test_every_caller_gets_the_error_and_the_next_call_tries_again() -> None:
    tries: list[str] = []

    async def fail() -> int:
        tries.append("")
        await asyncio.sleep(0)
        raise ConnectionFailed("away")

    async def run() -> None:
        once: SingleFlight[str, int] = SingleFlight()
        errors = await asyncio.gather(
            *(once.get("a", fail) for _ in range(3)), return_exceptions=True
        )
        assert [str(error) for error in errors] == ["away"] * 3
        assert len({id(error) for error in errors}) == 3
        with pytest.raises(ConnectionFailed):
            await once.get("a", fail)
        assert len(tries) == 2

    asyncio.run(run())


def test_a_cancelled_caller_leaves_the_call_to_the_others() -> None:
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


def test_cancelling_a_single_flight_cancels_its_calls() -> None:
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
