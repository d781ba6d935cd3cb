"""Connections to Redis: timeouts, pools, Sentinel, and the conversion of errors.

Producers and workers share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis

from ..errors import ConnectionFailed, QueueFull
from .fork_safety import make_fork_safe
from .outage import (
    WORKER_WAIT_S,
    Outage,
    OutageRetry,
    has_invalid_certificate,
    is_out_of_memory,
)
from .pool import client_of, pool_options
from .sentinel import Sentinels
from .url import Address, redact_password

#: Timeouts after which a silent peer counts as dead; TCP itself needs minutes to detect it.
SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
#: Timeout of one sentinel in seconds; then the next one is queried.
_SENTINEL_TIMEOUT_S: Final = 2


def connect(
    url: str,
    *,
    patient: bool = False,
    outage: Outage | None = None,
    max_connections: int = 100,
    timeout_s: float | None = None,
) -> redis.Redis:
    """Return a client with a connection pool, thread-safe and safe after a fork.

    It connects at the first command. `url` has the form that `connection.url` describes. With
    sentinels, each new connection queries them for the address of the master. If all
    `max_connections` are in use, a thread waits for one.

    An unreachable Redis is ridden out as `outage` says; without one, calls fail after two retries.
    A patient client, for workers, rides out ten minutes, also before the first answer. Commands
    must be idempotent, since a command without a response is sent again. `timeout_s` is that of a
    connection and of a response, unless it is the usual one. Raise InvalidInput if the URL is
    invalid.
    """
    address = Address.parse(url)
    if outage is None:
        limit_s = WORKER_WAIT_S if patient else 0.0
        outage = Outage(redact_password(url), limit_s, reached=patient)
    pool = pool_options(max_connections, outage.limit_s)
    options: dict[str, Any] = {
        **SOCKET_OPTIONS,
        **tls_options(address),
        **pool,
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "retry": OutageRetry(outage),
    }
    if timeout_s is not None:
        options |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_s)
    if address.master is None:
        ((host, port),) = address.hosts
        client = client_of({"host": host, "port": port, **options})
        make_fork_safe([client])
        return client
    sentinels = Sentinels(address.hosts, {**sentinel_options(address), **pool})
    client = sentinels.master_client(address.master, options)
    make_fork_safe([client, *sentinels.sentinels])
    return client


def tls_options(address: Address) -> dict[str, Any]:
    """Return redis-py's options for a connection over TLS; none for a plain connection."""
    return {} if address.tls is None else {"ssl": True, **address.tls}


def sentinel_options(address: Address) -> dict[str, Any]:
    """Return redis-py's options for a connection to a sentinel."""
    return {
        **SOCKET_OPTIONS,
        **tls_options(address),
        "socket_timeout": _SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        # No retries: the next sentinel is queried, and each new connection queries all of them.
        "retry": None,
    }


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Convert errors of redis-py to ConnectionFailed, or to QueueFull if Redis is full."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        if isinstance(error, ConnectionFailed):
            raise
        server = redact_password(url)
        if is_out_of_memory(error):
            raise QueueFull(
                f"Redis at {server} is full (its `maxmemory`): try again later"
            ) from error
        cause = str(error).rstrip(".")
        raise ConnectionFailed(f"Redis at {server}: {cause}. {_remedy(error)}") from error


def _remedy(error: BaseException) -> str:
    if has_invalid_certificate(error):
        return "Does ssl_ca_certs name the authority that signed the server's certificate?"
    if isinstance(error, redis.exceptions.MaxConnectionsError):
        return "Raise BLIPLINE_MAX_CONNECTIONS, or use fewer threads"
    return (
        "Is it running, and is BLIPLINE_REDIS_URL correct? `make up` in a checkout starts a Redis "
        "and a worker, `python -m worker` a worker"
    )
