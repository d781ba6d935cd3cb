"""Fork safety: connection pools that a forked child may use immediately.

redis-py renews the pool of a child under the parent's lock. If another thread of the parent held
the lock at the moment of the fork, the child would wait forever.
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
    """Replace the locks of these clients in forked children."""
    _POOLS.update(client.connection_pool for client in clients)


def _renew_locks() -> None:
    """Replace the locks in a child; its only thread holds none of them."""
    for pool in _POOLS:
        pool._lock = threading.RLock()
        pool._event_dispatcher._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
