"""Connections to Redis: timeouts, retries with jittered backoff, and failover.

Producers and workers share them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from ..errors import ConnectionFailed, QueueFull
from .fork_safety import make_fork_safe
from .sentinel import Sentinels
from .url import Address, redact_password

#: Timeouts after which a silent peer counts as dead; TCP itself needs minutes to detect it.
SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}

#: Error codes of a server that is not, or not yet, the master with its replicas. They are searched
#: for in the message, since Redis 6 wraps the error of a command in a script.
_NOT_MASTER: Final = ("READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED")
#: Timeout of one sentinel in seconds; then the next one is queried.
_SENTINEL_TIMEOUT_S: Final = 2


def connect(url: str, *, patient: bool = False) -> redis.Redis:
    """Return a client with a connection pool, thread-safe and safe after a fork.

    It connects at the first command. `url` has the form that `connection.url` describes. With
    sentinels, each new connection queries them for the address of the master.

    A patient client, for workers, outlasts an outage or a failover of about ten minutes. Its
    commands must be idempotent, since a command without a response is sent again. Raise
    InvalidInput if the URL is invalid.
    """
    address = Address.parse(url)
    options: dict[str, Any] = {
        **SOCKET_OPTIONS,
        **tls_options(address),
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "retry": TransientRetry(
            ExponentialWithJitterBackoff(base=0.05, cap=2.0), 300 if patient else 2
        ),
    }
    if address.master is None:
        ((host, port),) = address.hosts
        client = redis.Redis(host=host, port=port, **options)
        make_fork_safe([client])
        return client
    sentinels = Sentinels(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=sentinel_options(address)
    )
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
        raise ConnectionFailed(f"Redis at {server}: {error}. {_remedy(error)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Redis is out of memory; older servers wrap the error of a script."""
    if isinstance(error, redis.OutOfMemoryError):
        return True
    return isinstance(error, redis.ResponseError) and "OOM command not allowed" in str(error)


def _remedy(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "Does ssl_ca_certs name the authority that signed the server's certificate?"
        cause = cause.__cause__ or cause.__context__
    return "Is it running, and is BLIPLINE_REDIS_URL correct?"


class TransientRetry(Retry):
    """A retry policy that also covers a failover, and excludes a wrong password."""

    def __init__(self, backoff: ExponentialWithJitterBackoff, retries: int) -> None:
        errors = (redis.ConnectionError, redis.TimeoutError, TimeoutError, redis.ResponseError)
        super().__init__(backoff, retries, errors)

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def may_retry(error: Exception) -> bool:
            return is_retryable_error(error) and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, may_retry, with_failure_count)


def is_transient(error: Exception) -> bool:
    """Return whether an error is temporary: unreachable, full, loading, busy, or no master."""
    if not isinstance(error, redis.ResponseError):
        return isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError)
    busy = any(code in str(error) for code in ("MISCONF", "LOADING", "BUSY "))
    return busy or is_out_of_memory(error) or is_retryable_error(error)


def is_retryable_error(error: Exception) -> bool:
    """Return whether a retry over a new connection may succeed."""
    if isinstance(error, redis.ResponseError):
        # redis-py removes the code from the message of an error that has a class.
        known = isinstance(
            error, (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)
        )
        return known or any(code in str(error) for code in _NOT_MASTER)
    return not isinstance(error, redis.AuthenticationError)
