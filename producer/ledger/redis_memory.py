"""Memory usage of Redis."""

from __future__ import annotations

import time
from typing import Any, Final

import redis

from ..connection.eviction import PolicyMonitor

#: Share of Redis's `maxmemory` above which no new work is enqueued: open work needs the rest.
FULL_AT: Final = 0.9
#: Seconds between two readings.
READ_INTERVAL_S: Final = 1.0


class RedisMemory:
    """A monitor of the memory of Redis, to stop new work before Redis is full."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._read_at = 0.0
        self._shortage: str | None = None
        self._policy_monitor = PolicyMonitor()

    def shortage(self) -> str | None:
        """Return a message if Redis is short of memory; the reading is cached READ_INTERVAL_S."""
        now = time.monotonic()
        if now >= self._read_at:
            self._read_at = now + READ_INTERVAL_S
            self._shortage = self._read()
        return self._shortage

    def _read(self) -> str | None:
        try:
            memory: dict[str, Any] = self._redis.info("memory")
        except redis.exceptions.NoPermissionError:
            # This user may not read it. Then Redis is full only when it rejects a write.
            return None
        self._policy_monitor.observe(memory.get("maxmemory_policy"))
        used, limit = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
        if not limit or used < FULL_AT * limit:
            return None
        return f"Redis uses {used >> 20:,} of {limit >> 20:,} MiB (its `maxmemory`)"
