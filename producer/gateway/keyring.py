"""Whose an API key is, asked of Redis every few seconds, and not at all by those who guess."""

from __future__ import annotations

import ipaddress
import time
from functools import partial
from typing import Final

from ..api_keys import ApiKeys, digest, id_of
from ..recent import Recent
from .calls import Calls
from .once import Once
from .problems import Problem

#: Seconds after which a key is looked up again: so long a revoked one may still be let in.
KNOWN_S: Final = 5.0
#: Keys that are remembered at most, of those that let somebody in and of those that do not.
KEPT_KEYS: Final = 4096
#: Wrong keys that one address may try in a minute; then Redis is asked no more on its behalf.
WRONG_KEYS: Final = 60
WRONG_KEYS_S: Final = 60.0
#: Addresses that are remembered at most.
KEPT_ADDRESSES: Final = 4096


class Keyring:
    """Remembers keys by their SHA-256; for one event loop."""

    def __init__(self, keys: ApiKeys, calls: Calls) -> None:
        self._keys = keys
        self._calls = calls
        #: The name, and until when that counts as known.
        self._valid: Recent[str, tuple[str, float]] = Recent(KEPT_KEYS)
        self._wrong: Recent[str, float] = Recent(KEPT_KEYS)
        self._guesses: Recent[str, tuple[int, float]] = Recent(KEPT_ADDRESSES)
        self._looks: Once[str, str | None] = Once()

    async def name_of(self, key: str, address: str) -> str:
        """The name that a key stands for. Raises Problem, or ConnectionFailed."""
        kept = digest(key)
        name, until = self._valid.get(kept) or ("", 0.0)
        if until > time.monotonic():
            return name
        found = None
        if id_of(key) is not None and (self._wrong.get(kept) or 0.0) <= time.monotonic():
            # Whoever had a valid key is not locked out by others behind the same address.
            if not name:
                self._check_guesses(address)
            found = await self._looks.get(kept, partial(self._ask, key, kept))
        if found is None:
            self._count_guess(address)
            raise Problem(
                "unauthorized",
                "This API key is not valid; `blipline keys list` names those that are",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return found

    async def _ask(self, key: str, kept: str) -> str | None:
        name = await self._calls.run(self._keys.verify, key)
        until = time.monotonic() + KNOWN_S
        if name is None:
            self._valid.drop(kept)
            self._wrong.put(kept, until)
        else:
            self._valid.put(kept, (name, until))
        return name

    def _check_guesses(self, address: str) -> None:
        guesses, until = self._guesses.get(_network(address)) or (0, 0.0)
        left_s = until - time.monotonic()
        if guesses >= WRONG_KEYS and left_s > 0:
            raise Problem(
                "rate_limited",
                "Too many wrong API keys came from this address",
                retry_after_s=left_s,
            )

    def _count_guess(self, address: str) -> None:
        now = time.monotonic()
        guesses, until = self._guesses.get(_network(address)) or (0, 0.0)
        if until <= now:
            guesses, until = 0, now + WRONG_KEYS_S
        self._guesses.put(_network(address), (guesses + 1, until))


def _network(address: str) -> str:
    """One subscriber has as many IPv6 addresses as it likes, in its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((int(found), 64), strict=False))
