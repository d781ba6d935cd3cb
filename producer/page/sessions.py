"""Who has signed in, and with which key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ..gateway.lru import LRUCache
from ..gateway.problems import Problem

#: Seconds after which one must sign in again.
SESSION_S: Final = 12 * 3600.0
#: Sessions at most; the one that was not used for the longest time gives way.
MAX_SESSIONS: Final = 10_000

#: The name that a key, shown by an address, stands for; raises Problem where it does for none.
NameOf = Callable[[str, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    ends_at: float


class Sessions:
    """Sessions of this process, by their token. A key that is revoked ends those of it."""

    def __init__(self, name_of: NameOf, clock: Callable[[], float] = time.monotonic) -> None:
        self._name_of = name_of
        self._clock = clock
        self._open: LRUCache[str, _Session] = LRUCache(MAX_SESSIONS)

    async def open(self, key: str, address: str) -> str:
        """A token for whoever shows a good key; raises Problem for a bad one."""
        await self._name_of(key, address)
        token = secrets.token_urlsafe(32)
        self._open.put(token, _Session(key, self._clock() + SESSION_S))
        return token

    async def name(self, token: str, address: str) -> str | None:
        """Whose session it is; None where it has ended or never was."""
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
        """Sign out."""
        self._open.drop(token)
