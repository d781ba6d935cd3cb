"""Statistics of the job store at one moment, for monitoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from .. import contract
from .script import LedgerScript


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """The numbers of statistics.lua, and the memory of Redis."""

    interactive_items: int
    bulk_items: int
    #: Bytes of the uploaded images that open jobs name.
    image_bytes: int
    #: Age of the oldest job that no consumer runs; 0 if none waits.
    interactive_waiting_s: float
    bulk_waiting_s: float
    open_jobs: int
    running_jobs: int
    #: Bytes that Redis stores for all accounts.
    stored_bytes: int
    open_batches: int
    #: Items of the open batches, of at most 500 of these.
    open_batch_items: int
    done_batch_items: int
    failed_batch_items: int
    pending_webhooks: int
    workers: int
    dead_jobs: int
    malformed_messages: int
    #: Memory of Redis and its limit, 0 for none; None: this user may not read them.
    redis_bytes: int | None = None
    redis_limit_bytes: int | None = None


def read_statistics(client: redis.Redis, script: LedgerScript) -> LedgerStatistics:
    """Read the statistics in two round trips. Raises redis-py's errors as they are."""
    words = [word.decode() for word in script.call("statistics", contract.WORKER_ALIVE_S)]
    numbers: dict[str, Any] = {
        name: float(number) if name.endswith("_s") else int(number)
        for name, number in zip(words[::2], words[1::2], strict=True)
    }
    try:
        memory: dict[str, Any] = client.info("memory")
    except redis.exceptions.NoPermissionError:
        return LedgerStatistics(**numbers)
    return LedgerStatistics(
        **numbers,
        redis_bytes=int(memory["used_memory"]),
        redis_limit_bytes=int(memory.get("maxmemory", 0)),
    )
