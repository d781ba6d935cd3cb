"""Whole bodies in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from producer.gateway.intake import Intake
from producer.gateway.problems import Problem


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def endless() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


async def status_of(intake: Intake, body: AsyncIterator[bytes]) -> int:
    with pytest.raises(Problem) as caught:
        async with intake.whole(body):
            pass
    assert intake.held_bytes == 0
    return caught.value.status_code


def test_a_body_counts_as_held_while_it_is_used() -> None:
    async def run() -> None:
        intake = Intake()
        async with intake.whole(chunks(3, 0, 4)) as body:
            assert (body, intake.held_bytes) == (b"x" * 7, 7)
        assert intake.held_bytes == 0

    asyncio.run(run())


def test_all_bodies_together_have_a_bound() -> None:
    async def run() -> None:
        intake = Intake(max_held_bytes=10)
        async with intake.whole(chunks(6)):
            with pytest.raises(Problem) as caught:
                async with intake.whole(chunks(3, 3)):
                    pass
            assert caught.value.status_code == 503
            assert caught.value.headers == {"Retry-After": "1"}
            assert intake.held_bytes == 6
            async with intake.whole(chunks(4)):
                pass

    asyncio.run(run())


def test_a_body_that_does_not_come_is_given_up() -> None:
    assert asyncio.run(status_of(Intake(read_s=0.01), endless())) == 408


def test_an_error_of_who_uses_a_body_comes_as_it_is() -> None:
    async def run() -> None:
        intake = Intake()
        with pytest.raises(TimeoutError):
            async with intake.whole(chunks(1)):
                raise TimeoutError
        assert intake.held_bytes == 0

    asyncio.run(run())
