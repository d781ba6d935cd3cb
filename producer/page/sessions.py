"""Login sessions, each opened with an API key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ..gateway.lru import LRUCache
from ..gateway.problems import Problem

#: Lifetime of a session in seconds.
SESSION_S: Final = 12 * 3600.0
#: Maximum sessions; the least recently used one is evicted.
MAX_SESSIONS: Final = 10_000

#: Returns the tenant's name of a key, given the client's address; raises Problem if it is invalid.
NameOf = Callable[[str, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    ends_at: float


class Sessions:
    """Sessions of this process by token. A revoked key ends its sessions."""

    def __init__(self, name_of: NameOf, clock: Callable[[], float] = time.monotonic) -> None:
        self._name_of = name_of
        self._clock = clock
        self._open: LRUCache[str, _Session] = LRUCache(MAX_SESSIONS)

    async def open(self, key: str, address: str) -> str:
        """Open a session and return its token; raises Problem if the key is invalid."""
        await self._name_of(key, address)
        token = secrets.token_urlsafe(32)
        self._open.put(token, _Session(key, self._clock() + SESSION_S))
        return token

    async def name(self, token: str, address: str) -> str | None:
        """Return the tenant's name of a session; None if it has ended or never existed."""
        session = self._open.get(token)
        if session is None or self._clock() >= session.ends_at:
            self.close(token)
            return None
        try:
            return await self._name_of(session.key, address)
        except Problem:
            self.close(token)
            return None

    def close(self, token: str) -> None:
        """End a session."""
        self._open.drop(token)
