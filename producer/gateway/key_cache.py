"""Whose an API key is: asked of Redis every few seconds, however many keys somebody tries."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from ..aio.batching import SingleFlight
from .api_keys import ApiKeys, digest, id_of
from .lru import LRUCache
from .problems import Problem
from .redis_calls import RedisCalls

#: Seconds after which a key is looked up again: so long a revoked one may still be let in.
KNOWN_S: Final = 5.0
#: Keys that are remembered at most, of those that let somebody in and of those that do not.
KEPT_KEYS: Final = 4096
#: Keys not seen before that are looked up at once, one by one, for one address in a minute; more
#: wait for the next time that all keys are read. Nobody guesses a key: it is Redis that is spared.
UNKNOWN_KEYS: Final = 60
UNKNOWN_KEYS_S: Final = 60.0
#: Seconds before all keys are read for those who wait for that.
TURN_S: Final = 1.0
#: Addresses that are remembered at most.
KEPT_ADDRESSES: Final = 4096

#: Finds the name of a key, given also as its SHA-256.
_Read = Callable[[str, str], Awaitable[str | None]]


class KeyCache:
    """Remembers keys by their SHA-256; for one event loop."""

    def __init__(self, keys: ApiKeys, calls: RedisCalls) -> None:
        self._keys = keys
        self._calls = calls
        #: The name, and until when that counts as known.
        self._valid: LRUCache[str, tuple[str, float]] = LRUCache(KEPT_KEYS)
        self._wrong: LRUCache[str, float] = LRUCache(KEPT_KEYS)
        self._unknown: LRUCache[str, tuple[int, float]] = LRUCache(KEPT_ADDRESSES)
        self._looks: SingleFlight[str, str | None] = SingleFlight()
        #: Names by the SHA-256 of keys.
        self._all: SingleFlight[None, Mapping[str, str]] = SingleFlight()

    async def name_of(self, key: str, address: str) -> str:
        """The name that a key stands for. Raises Problem, or ConnectionFailed."""
        kept = digest(key)
        name, until = self._valid.get(kept) or ("", 0.0)
        if until > time.monotonic():
            return name
        found = None
        if id_of(key) is not None and (self._wrong.get(kept) or 0.0) <= time.monotonic():
            # A key that was good is looked up again, whatever comes from the same address.
            read = self._verify if name or self._may_look(address) else self._find
            found = await self._looks.get(kept, partial(self._ask, read, key, kept))
        if found is None:
            raise Problem(
                "unauthorized",
                "This API key is not valid; `blipline keys list` names those that are",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return found

    async def _ask(self, read: _Read, key: str, kept: str) -> str | None:
        name = await read(key, kept)
        until = time.monotonic() + KNOWN_S
        if name is None:
            self._valid.drop(kept)
            self._wrong.put(kept, until)
        else:
            self._valid.put(kept, (name, until))
        return name

    async def _verify(self, key: str, _: str) -> str | None:
        return await self._calls.run(self._keys.verify, key)

    async def _find(self, _: str, kept: str) -> str | None:
        """The same of all keys, which are read for all who wait for that."""
        return (await self._all.get(None, self._read_all)).get(kept)

    async def _read_all(self) -> Mapping[str, str]:
        await asyncio.sleep(TURN_S)
        return {key.digest: key.name for key in await self._calls.run(self._keys.list)}

    def _may_look(self, address: str) -> bool:
        """Whether Redis is asked for one more key that is not known, on behalf of an address."""
        now, network = time.monotonic(), _network(address)
        looks, until = self._unknown.get(network) or (0, 0.0)
        if until <= now:
            looks, until = 0, now + UNKNOWN_KEYS_S
        self._unknown.put(network, (looks + 1, until))
        return looks < UNKNOWN_KEYS


def _network(address: str) -> str:
    """One subscriber has as many IPv6 addresses as it likes, in its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found), 64), strict=False))
