"""Sentinel: clients of whichever server is the master now.

redis-py's own, with two of its gaps closed: see `Sentinels.discover_master` and `_Asking`.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)


class Sentinels(Sentinel):
    """Asks sentinels, from many threads."""

    def master_client(self, name: str, options: dict[str, Any]) -> redis.Redis:
        """A client of the master; `options` are redis-py's, for its connections."""
        kind = MasterTlsConnection if options.get("ssl") else MasterConnection
        client: redis.Redis = self.master_for(  # type: ignore[no-untyped-call]
            name, MasterClient, **{**options, "connection_class": kind}
        )
        return client

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Where the master is now; raises MasterNotFoundError, which says what each one answered.

        redis-py puts the sentinel that answered first in place, and two threads that do so at once
        may lose another one for good. Here each makes a list of its own.
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
                self.sentinels = [sentinel, *(one for one in self.sentinels if one is not sentinel)]
                return state["ip"], state["port"]
            answers.append(f"{_name(sentinel)} {'thinks it is down' if state else 'knows none'}")
        raise MasterNotFoundError(f"no master {service_name!r}: {'; '.join(answers)}") from cause


class MasterClient(redis.Redis):
    """A client of the master that gives the connections to the sentinels back as well."""

    def close(self) -> None:
        """Give all connections back; a later command opens new ones."""
        super().close()
        pool: Any = self.connection_pool
        pool.sentinel_manager.close()


class _Asking:
    """Asks the sentinels also when a command is sent again.

    redis-py asks them for the first connect alone. A command that was on its way when its master
    died would be sent, at each new try, to the address of the dead one.
    """

    connection_pool: Any
    _sock: Any

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        # Retrying is not wanted by the one caller that has asked the sentinels itself.
        if retry_socket_connect and not self._sock:
            self.host, self.port = self.connection_pool.get_master_address()
        parent: Any = super()
        parent.connect_check_health(check_health, retry_socket_connect=False)


class MasterConnection(_Asking, SentinelManagedConnection):
    """A connection to the master."""


class MasterTlsConnection(_Asking, SentinelManagedSSLConnection):
    """A connection to the master over TLS."""


def _name(sentinel: redis.Redis) -> str:
    where = sentinel.connection_pool.connection_kwargs
    return f"{where['host']}:{where['port']}"
