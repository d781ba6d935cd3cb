"""Whole bodies in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from producer.gateway.problems import Problem
from producer.gateway.request_body import BodyReader


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def endless() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


async def status_of(intake: BodyReader, body: AsyncIterator[bytes]) -> int:
    with pytest.raises(Problem) as caught:
        async with intake.read("acme", body):
            pass
    assert intake.buffered_bytes == 0
    return caught.value.status_code


def test_a_body_counts_as_held_while_it_is_used() -> None:
    async def run() -> None:
        intake = BodyReader()
        async with intake.read("acme", chunks(3, 0, 4)) as body:
            assert (body, intake.buffered_bytes) == (b"x" * 7, 7)
        assert intake.buffered_bytes == 0

    asyncio.run(run())


def test_all_bodies_together_have_a_bound() -> None:
    async def run() -> None:
        intake = BodyReader(max_held_bytes=20, small_bytes=2)
        async with intake.read("acme", chunks(8)), intake.read("other", chunks(8)):
            with pytest.raises(Problem) as caught:
                async with intake.read("third", chunks(3, 3)):
                    pass
            assert caught.value.status_code == 503
            assert caught.value.headers == {"Retry-After": "1"}
            assert intake.buffered_bytes == 16
            async with intake.read("third", chunks(4)):
                pass

    asyncio.run(run())


def test_a_name_has_half_and_takes_nothing_from_others() -> None:
    async def run() -> None:
        intake = BodyReader(max_held_bytes=20, small_bytes=2)
        async with intake.read("acme", chunks(5, 5)):
            for sizes in ((1,), (3,)):
                with pytest.raises(Problem) as caught:
                    async with intake.read("acme", chunks(*sizes)):
                        pass
                assert caught.value.status_code == 503
            async with intake.read("other", chunks(10)):
                pass

    asyncio.run(run())


def test_what_is_small_is_let_in_whatever_others_hold() -> None:
    async def run() -> None:
        intake = BodyReader(max_held_bytes=20, small_bytes=2)
        async with (
            intake.read("acme", chunks(10)),
            intake.read("other", chunks(10)),
            intake.read("third", chunks(1, 1)) as body,
        ):
            assert body == b"xx"

    asyncio.run(run())


@pytest.mark.parametrize("limit", [{"read_s": 0.01}, {"silent_s": 0.01}])
def test_a_body_that_does_not_come_is_given_up(limit: dict[str, float]) -> None:
    assert asyncio.run(status_of(BodyReader(**limit), endless())) == 408  # type: ignore[arg-type]


def test_an_error_of_who_uses_a_body_comes_as_it_is() -> None:
    async def run() -> None:
        intake = BodyReader()
        with pytest.raises(TimeoutError):
            async with intake.read("acme", chunks(1)):
                raise TimeoutError
        assert intake.buffered_bytes == 0

    asyncio.run(run())
