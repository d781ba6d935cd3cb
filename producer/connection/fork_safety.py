"""Pools of connections that a forked child may use, whatever its parent was doing meanwhile.

redis-py makes a child's pool anew, but takes the parent's lock for it: if another thread of the
parent held it at the moment of the fork, the child would wait for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any, Final

import redis

_POOLS: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def make_fork_safe(clients: Iterable[redis.Redis]) -> None:
    """Let children of this process use these clients, too."""
    _POOLS.update(client.connection_pool for client in clients)


def _renew_locks() -> None:
    """In a child, which has one thread: nobody else holds a lock."""
    for pool in _POOLS:
        pool._lock = threading.RLock()
        pool._event_dispatcher._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
