"""A cache of API keys: clients that send many invalid keys cause few reads of Redis."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from ...aio.single_flight import SingleFlight
from ..http.lru import LRUCache
from ..http.problems import Problem
from ..http.redis_calls import RedisCalls
from .api_keys import ApiKey, ApiKeys, digest, key_id_of
from .event_tokens import EventToken, is_signed

#: Seconds until a key is read again. A revoked key may be accepted for this time.
CACHE_TTL_S: Final = 5.0
#: Maximum number of cached valid keys, and of cached invalid keys.
MAX_CACHED_KEYS: Final = 4096
#: Maximum number of separate look-ups of unknown keys per network and period; further keys wait for
#: the next read of all keys. Keys cannot be guessed: the limit protects Redis.
MAX_NETWORK_LOOKUPS: Final = 60
LOOKUP_PERIOD_S: Final = 60.0
#: Delay in seconds before all keys are read for the waiting requests.
LIST_DELAY_S: Final = 1.0
#: Maximum number of networks whose look-ups are counted.
MAX_NETWORKS: Final = 4096

#: Returns the stored key, given the key and its SHA-256.
_Lookup = Callable[[str, str], Awaitable[ApiKey | None]]


class KeyCache:
    """A cache of keys by their SHA-256; for one event loop."""

    def __init__(self, keys: ApiKeys, calls: RedisCalls) -> None:
        self._keys = keys
        self._calls = calls
        #: Valid keys, and when each entry expires.
        self._valid: LRUCache[str, tuple[ApiKey, float]] = LRUCache(MAX_CACHED_KEYS)
        #: Invalid keys, and when each entry expires.
        self._invalid: LRUCache[str, float] = LRUCache(MAX_CACHED_KEYS)
        #: Keys by their ids, which tokens contain, and when each entry expires.
        self._by_id: LRUCache[str, tuple[ApiKey | None, float]] = LRUCache(MAX_CACHED_KEYS)
        #: Look-ups of unknown keys by network, and when the period ends.
        self._network_lookups: LRUCache[str, tuple[int, float]] = LRUCache(MAX_NETWORKS)
        self._lookups: SingleFlight[str, ApiKey | None] = SingleFlight()
        #: All keys by their SHA-256, and by their ids.
        self._lists: SingleFlight[None, Mapping[str, ApiKey]] = SingleFlight()

    async def authenticate(self, key: str, address: str) -> ApiKey:
        """Return the stored key of an API key. Raises Problem, or ConnectionFailed."""
        key_digest = digest(key)
        cached_key, expires = self._valid.get(key_digest) or (None, 0.0)
        if cached_key is not None and expires > time.monotonic() and not _has_expired(cached_key):
            return cached_key
        stored = None
        is_cached_as_invalid = (self._invalid.get(key_digest) or 0.0) > time.monotonic()
        if key_id_of(key) is not None and not is_cached_as_invalid:
            # A key that was valid is looked up immediately, regardless of its network's limit.
            may_verify = cached_key is not None or self._count_lookup(address)
            lookup = self._verify if may_verify else self._find
            stored = await self._lookups.get(
                key_digest, partial(self._look_up, lookup, key, key_digest)
            )
        if stored is None or _has_expired(stored):
            raise Problem(
                "unauthorized",
                "This API key is not valid; `blipline keys list` lists the valid ones",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return stored

    async def authenticate_token(self, text: str, batch_id: str, address: str) -> ApiKey:
        """Return the key that has created a token for the events of a batch.

        Raises Problem, or ConnectionFailed.
        """
        token = EventToken.decode(text)
        key = None
        if token is not None and token.batch_id == batch_id and token.expires_at > time.time():
            key = await self._key_of_token(token.key_id, address)
        if key is None or not is_signed(text, key) or _has_expired(key):
            raise Problem(
                "unauthorized",
                "This token is not valid for the batch, or has expired: request another one by "
                "POST /v1/batches/{id}/token",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return key

    async def key_of(self, key_id: str) -> ApiKey | None:
        """Return the stored key of an id; None if there is none. Raises ConnectionFailed."""
        cached_key, expires = self._by_id.get(key_id) or (None, 0.0)
        if expires > time.monotonic():
            return cached_key
        stored = await self._calls.run(self._keys.get, key_id)
        self._by_id.put(key_id, (stored, time.monotonic() + CACHE_TTL_S))
        return stored

    async def _key_of_token(self, key_id: str, address: str) -> ApiKey | None:
        """Return the stored key of an id, above the limit of look-ups from the list of all keys."""
        if self._by_id.get(key_id) is not None or self._count_lookup(address):
            return await self.key_of(key_id)
        stored = await self._find("", key_id)
        if stored is not None:
            self._by_id.put(key_id, (stored, time.monotonic() + CACHE_TTL_S))
        return stored

    async def _look_up(self, lookup: _Lookup, key: str, key_digest: str) -> ApiKey | None:
        stored = await lookup(key, key_digest)
        expires = time.monotonic() + CACHE_TTL_S
        if stored is None:
            self._valid.drop(key_digest)
            self._invalid.put(key_digest, expires)
        else:
            self._valid.put(key_digest, (stored, expires))
        return stored

    async def _verify(self, key: str, _: str) -> ApiKey | None:
        return await self._calls.run(self._keys.find, key)

    async def _find(self, _: str, name: str) -> ApiKey | None:
        """Look a key up in the list of all keys, which waiting requests share."""
        return (await self._lists.get(None, self._read_all)).get(name)

    async def _read_all(self) -> Mapping[str, ApiKey]:
        await asyncio.sleep(LIST_DELAY_S)
        stored = await self._calls.run(self._keys.list)
        return {name: key for key in stored for name in (key.id, key.digest)}

    def _count_lookup(self, address: str) -> bool:
        """Count a look-up of an unknown key; return whether its network is within the limit."""
        now, network = time.monotonic(), _network(address)
        lookups, ends = self._network_lookups.get(network) or (0, 0.0)
        if ends <= now:
            lookups, ends = 0, now + LOOKUP_PERIOD_S
        self._network_lookups.put(network, (lookups + 1, ends))
        return lookups < MAX_NETWORK_LOOKUPS


def _has_expired(key: ApiKey) -> bool:
    return key.policy.has_expired(time.time())


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address, since one subscriber has all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
