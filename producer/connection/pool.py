"""Connection pools: a thread that finds all connections in use waits for one, within a limit.

A thread never holds two connections of a pool, so the threads that wait cannot block each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from queue import Empty, LifoQueue
from typing import Any, Final

import redis
from redis.connection import BlockingConnectionPool, SSLConnection
from redis.sentinel import SentinelConnectionPool

from .outage import outage_limit_s

#: Maximum seconds that a thread waits for a connection, beyond the limit of an outage. It exceeds
#: the timeout of a command.
POOL_WAIT_S: Final = 40.0
#: Minimum wait for a connection within a short `outage_limit`.
MIN_POOL_WAIT_S: Final = 1.0


class ConnectionQueue(LifoQueue[Any]):
    """The connections of a pool that are not in use."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; raise MaxConnectionsError if none is returned in time."""
        wait_s = min(timeout or POOL_WAIT_S, max(outage_limit_s(), MIN_POOL_WAIT_S))
        try:
            return super().get(block, wait_s)
        except Empty:
            raise redis.exceptions.MaxConnectionsError(
                f"all {self.maxsize} connections of this client were in use for {wait_s:g} s"
            ) from None


class WaitingPool(BlockingConnectionPool):
    """A pool of connections to one server."""

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """Return a connection that is ready; raise MaxConnectionsError if none becomes free."""
        get_connection: Callable[[], Any] = super().get_connection
        retry = self.connection_kwargs["retry"]
        # redis-py looks for pending data outside of its own retries, and fails if the server has
        # closed the new connection.
        connection = retry.check_out(get_connection) if retry else get_connection()
        connection.handled_error = sys.exc_info()[1]
        return connection

    def release(self, connection: Any) -> None:
        """Return a connection to the pool; close it if an interrupt may have left a reply in it.

        An interrupt between a command and its reply raises an error that is not redis-py's. The
        next command would read that reply as its own.
        """
        error = sys.exc_info()[1]
        # A connection that was never checked out could not connect.
        handled = getattr(connection, "handled_error", error)
        if error not in (None, handled) and not isinstance(error, redis.RedisError):
            connection.disconnect()
        connection.handled_error = None
        super().release(connection)  # type: ignore[no-untyped-call]


class SentinelPool(SentinelConnectionPool, WaitingPool):
    """A pool of connections to the master that the sentinels name."""


def pool_options(max_connections: int, outage_limit_s: float) -> dict[str, Any]:
    """Return redis-py's options for the size of a pool and the wait for a connection."""
    return {
        "max_connections": max_connections,
        "timeout": outage_limit_s + POOL_WAIT_S,
        "queue_class": ConnectionQueue,
    }


def client_of(options: dict[str, Any]) -> redis.Redis:
    """Return a client with its own pool; `options` are redis-py's, for pool and connections."""
    if options.pop("ssl", False):
        options["connection_class"] = SSLConnection
    return redis.Redis.from_pool(WaitingPool(**options))  # type: ignore[no-untyped-call]
