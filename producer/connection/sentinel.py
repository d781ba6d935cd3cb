"""Sentinel: clients of the current master.

They extend redis-py's Sentinel and correct two of its defects: see `Sentinels.discover_master` and
`_MasterDiscovery`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from .pool import SentinelPool, client_of


class Sentinels(Sentinel):
    """A thread-safe group of sentinels; `options` are redis-py's, for connections to them."""

    def __init__(self, hosts: Sequence[tuple[str, int]], options: dict[str, Any]) -> None:
        # redis-py's own clients would raise an error when many threads query a sentinel.
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = [
            client_of({"host": host, "port": port, **options}) for host, port in hosts
        ]

    def master_client(self, name: str, options: dict[str, Any]) -> redis.Redis:
        """Return a client of the master; `options` are redis-py's, for its connections."""
        connection = MasterTlsConnection if options.get("ssl") else MasterConnection
        client: redis.Redis = self.master_for(  # type: ignore[no-untyped-call]
            name,
            MasterClient,
            connection_pool_class=SentinelPool,
            **{**options, "connection_class": connection},
        )
        return client

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the master; raise MasterNotFoundError with each response.

        redis-py swaps the sentinel that responded to the front of the shared list, and two
        concurrent swaps may lose a sentinel permanently. Here each thread builds a new list.
        """
        answers, cause = [], None
        for sentinel in self.sentinels:
            try:
                masters: Any = sentinel.sentinel_masters()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                answers.append(str(error))
                cause = error
                continue
            state = masters.get(service_name)
            if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                remaining = [item for item in self.sentinels if item is not sentinel]
                self.sentinels = [sentinel, *remaining]
                return state["ip"], state["port"]
            reason = "considers it down" if state else "knows no master of this name"
            answers.append(f"{_name(sentinel)} {reason}")
        raise MasterNotFoundError(f"no master {service_name!r}: {'; '.join(answers)}") from cause


class MasterClient(redis.Redis):
    """A client of the master that also closes the connections to the sentinels."""

    def close(self) -> None:
        """Close all connections; a later command opens new ones."""
        super().close()
        pool: Any = self.connection_pool
        pool.sentinel_manager.close()


class _MasterDiscovery:
    """A mixin of connections that query the sentinels before each retry of a command.

    redis-py queries them only before the first connect. If the master died during a command, each
    retry would go to the address of the dead master.
    """

    connection_pool: Any
    _sock: Any

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        # redis-py passes False after it has queried the sentinels itself.
        if retry_socket_connect and not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        parent: Any = super()
        parent.connect_check_health(check_health, retry_socket_connect=False)


class MasterConnection(_MasterDiscovery, SentinelManagedConnection):
    """A connection to the master."""


class MasterTlsConnection(_MasterDiscovery, SentinelManagedSSLConnection):
    """A connection to the master over TLS."""


def _name(sentinel: redis.Redis) -> str:
    options = sentinel.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"
