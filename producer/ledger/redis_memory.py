"""How full Redis is."""

from __future__ import annotations

import time
from typing import Any, Final

import redis

#: Part of Redis's `maxmemory` from which on it takes no new work: what is open needs the rest.
FULL_AT: Final = 0.9
#: Seconds between two looks.
LOOK_S: Final = 1.0


class Memory:
    """Notices in time that Redis has little memory left."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._look_at = 0.0
        self._problem: str | None = None

    def problem(self) -> str | None:
        """Why Redis should take no more, as of a moment ago."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._problem = self._look()
        return self._problem

    def _look(self) -> str | None:
        try:
            memory: dict[str, Any] = self._redis.info("memory")
        except redis.exceptions.NoPermissionError:
            # Not every user may ask. Then it is full when it says so.
            return None
        used, most = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
        if not most or used < FULL_AT * most:
            return None
        return f"Redis holds {used >> 20:,} of {most >> 20:,} MiB (its `maxmemory`)"
