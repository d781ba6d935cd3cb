"""Who has signed in."""

from __future__ import annotations

import asyncio

import pytest

from producer.gateway.problems import Problem
from producer.page.sessions import SESSION_S, Sessions

ADDRESS = "127.0.0.1"


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sessions(keys: dict[str, str], clock: Clock | None = None) -> Sessions:
    async def name_of(key: str, address: str) -> str:
        if key not in keys:
            raise Problem("unauthorized", "not valid")
        return keys[key]

    return Sessions(name_of, clock or Clock())


def test_a_good_key_opens_a_session_of_its_name() -> None:
    async def run() -> None:
        known = sessions({"k": "acme"})
        token = await known.open("k", ADDRESS)
        assert await known.name(token, ADDRESS) == "acme"
        assert await known.name("guessed", ADDRESS) is None

    asyncio.run(run())


def test_a_bad_key_opens_none() -> None:
    with pytest.raises(Problem):
        asyncio.run(sessions({"k": "acme"}).open("x", ADDRESS))


def test_a_revoked_key_ends_its_sessions() -> None:
    async def run() -> None:
        keys = {"k": "acme"}
        known = sessions(keys)
        token = await known.open("k", ADDRESS)
        del keys["k"]
        assert await known.name(token, ADDRESS) is None
        keys["k"] = "acme"
        assert await known.name(token, ADDRESS) is None

    asyncio.run(run())


def test_a_session_ends_by_itself_and_by_signing_out() -> None:
    async def run() -> None:
        clock = Clock()
        known = sessions({"k": "acme"}, clock)
        first, second = await known.open("k", ADDRESS), await known.open("k", ADDRESS)
        known.close(first)
        assert await known.name(first, ADDRESS) is None
        clock.now = SESSION_S
        assert await known.name(second, ADDRESS) is None

    asyncio.run(run())
