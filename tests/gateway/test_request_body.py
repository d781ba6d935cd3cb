"""Whole bodies within the memory limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from producer.gateway.http.problems import Problem
from producer.gateway.jobs.request_body import BodyReader, with_idle_timeout


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def endless() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


async def status_of(reader: BodyReader, body: AsyncIterator[bytes]) -> int:
    with pytest.raises(Problem) as caught:
        async with reader.read("acme", body):
            pass
    assert reader.buffered_bytes == 0
    return caught.value.status_code


def test_a_body_counts_as_buffered_while_it_is_used() -> None:
    async def run() -> None:
        reader = BodyReader()
        async with reader.read("acme", chunks(3, 0, 4)) as body:
            assert (body, reader.buffered_bytes) == (b"x" * 7, 7)
        assert reader.buffered_bytes == 0

    asyncio.run(run())


def test_all_bodies_together_have_a_limit() -> None:
    async def run() -> None:
        reader = BodyReader(max_buffered_bytes=20, small_bytes=2)
        async with reader.read("acme", chunks(8)), reader.read("other", chunks(8)):
            with pytest.raises(Problem) as caught:
                async with reader.read("third", chunks(3, 3)):
                    pass
            assert caught.value.status_code == 503
            assert caught.value.headers == {"Retry-After": "1"}
            assert reader.buffered_bytes == 16
            async with reader.read("third", chunks(4)):
                pass

    asyncio.run(run())


def test_a_tenant_may_use_half_of_the_memory() -> None:
    async def run() -> None:
        reader = BodyReader(max_buffered_bytes=20, small_bytes=2)
        async with reader.read("acme", chunks(5, 5)):
            for sizes in ((1,), (3,)):
                with pytest.raises(Problem) as caught:
                    async with reader.read("acme", chunks(*sizes)):
                        pass
                assert caught.value.status_code == 503
            async with reader.read("other", chunks(10)):
                pass

    asyncio.run(run())


def test_a_small_body_is_accepted_above_the_limit() -> None:
    async def run() -> None:
        reader = BodyReader(max_buffered_bytes=20, small_bytes=2)
        async with (
            reader.read("acme", chunks(10)),
            reader.read("other", chunks(10)),
            reader.read("third", chunks(1, 1)) as body,
        ):
            assert body == b"xx"

    asyncio.run(run())


@pytest.mark.parametrize("limit", [{"read_timeout_s": 0.01}, {"idle_timeout_s": 0.01}])
def test_a_body_that_does_not_arrive_times_out(limit: dict[str, float]) -> None:
    assert asyncio.run(status_of(BodyReader(**limit), endless())) == 408  # type: ignore[arg-type]


def test_an_error_of_the_caller_is_unchanged() -> None:
    async def run() -> None:
        reader = BodyReader()
        with pytest.raises(TimeoutError):
            async with reader.read("acme", chunks(1)):
                raise TimeoutError
        assert reader.buffered_bytes == 0

    asyncio.run(run())


def test_a_silent_body_times_out() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"start"
        await asyncio.sleep(3600)

    async def read() -> list[bytes]:
        return [piece async for piece in with_idle_timeout(silent(), 0.05)]

    with pytest.raises(Problem) as refusal:
        asyncio.run(read())
    assert refusal.value.code == "request_timeout"
