"""Login sessions."""

from __future__ import annotations

import asyncio

import pytest

from producer.gateway.access.api_keys import ApiKey
from producer.gateway.http.problems import Problem
from producer.page.sessions import SESSION_S, Sessions

ADDRESS = "127.0.0.1"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sessions(keys: dict[str, str], clock: Clock | None = None) -> Sessions:
    async def authenticate(key: str, address: str) -> ApiKey:
        if key not in keys:
            raise Problem("unauthorized", "not valid")
        return ApiKey(key, keys[key], 0.0, "")

    return Sessions(authenticate, clock or Clock(), max_sessions=20)


async def sign_in(opened: Sessions, key: str) -> str:
    return opened.open(key, await opened.authenticate(key, ADDRESS))


async def name_of(opened: Sessions, token: str) -> str | None:
    tenant = await opened.tenant(token, ADDRESS)
    return None if tenant is None else tenant.name


def test_a_valid_key_opens_a_session_of_its_tenant() -> None:
    async def run() -> None:
        opened = sessions({"k": "acme"})
        token = await sign_in(opened, "k")
        assert await name_of(opened, token) == "acme"
        assert await name_of(opened, "guessed") is None

    asyncio.run(run())


def test_an_invalid_key_opens_no_session() -> None:
    with pytest.raises(Problem):
        asyncio.run(sign_in(sessions({"k": "acme"}), "x"))


def test_a_revoked_key_ends_its_sessions() -> None:
    async def run() -> None:
        keys = {"k": "acme"}
        opened = sessions(keys)
        token = await sign_in(opened, "k")
        del keys["k"]
        assert await name_of(opened, token) is None
        keys["k"] = "acme"
        assert await name_of(opened, token) is None

    asyncio.run(run())


def test_a_session_expires_and_ends_by_signing_out() -> None:
    async def run() -> None:
        clock = Clock()
        opened = sessions({"k": "acme"}, clock)
        first, second = await sign_in(opened, "k"), await sign_in(opened, "k")
        opened.close(first)
        assert await name_of(opened, first) is None
        clock.now = SESSION_S
        assert await name_of(opened, second) is None

    asyncio.run(run())


def test_the_logins_of_one_name_sign_nobody_else_out() -> None:
    async def run() -> None:
        opened = sessions({"k": "acme", "many": "globex", "m2": "globex"})
        token = await sign_in(opened, "k")
        tokens = [await sign_in(opened, key) for _ in range(50) for key in ("many", "m2")]
        assert await name_of(opened, token) == "acme"
        # The name loses its own sessions, the oldest first.
        assert [await name_of(opened, late) for late in tokens[-19:]] == ["globex"] * 19
        assert await name_of(opened, tokens[-20]) is None

    asyncio.run(run())
