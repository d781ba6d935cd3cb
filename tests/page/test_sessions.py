"""Login sessions."""

from __future__ import annotations

import asyncio

import pytest

from producer.gateway.problems import Problem
from producer.page.sessions import SESSION_S, Sessions

ADDRESS = "127.0.0.1"


class Clock:
    """A clock that the test sets."""

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


def test_a_valid_key_opens_a_session_of_its_tenant() -> None:
    async def run() -> None:
        opened = sessions({"k": "acme"})
        token = await opened.open("k", ADDRESS)
        assert await opened.name(token, ADDRESS) == "acme"
        assert await opened.name("guessed", ADDRESS) is None

    asyncio.run(run())


def test_an_invalid_key_opens_no_session() -> None:
    with pytest.raises(Problem):
        asyncio.run(sessions({"k": "acme"}).open("x", ADDRESS))


def test_a_revoked_key_ends_its_sessions() -> None:
    async def run() -> None:
        keys = {"k": "acme"}
        opened = sessions(keys)
        token = await opened.open("k", ADDRESS)
        del keys["k"]
        assert await opened.name(token, ADDRESS) is None
        keys["k"] = "acme"
        assert await opened.name(token, ADDRESS) is None

    asyncio.run(run())


def test_a_session_expires_and_ends_by_signing_out() -> None:
    async def run() -> None:
        clock = Clock()
        opened = sessions({"k": "acme"}, clock)
        first, second = await opened.open("k", ADDRESS), await opened.open("k", ADDRESS)
        opened.close(first)
        assert await opened.name(first, ADDRESS) is None
        clock.now = SESSION_S
        assert await opened.name(second, ADDRESS) is None

    asyncio.run(run())
