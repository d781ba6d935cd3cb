"""Connections to Redis: one set of timeouts for producers and workers alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from kombu.exceptions import KombuError
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from .errors import ConnectionFailed

#: A peer that vanished without a word is noticed within these bounds, not when TCP gives up.
SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": 30,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}

#: Seconds after which a delivered, unacknowledged message goes back to its queue: the time to
#: recover from a consumer killed with SIGKILL, and at least three times as long as a chunk takes.
VISIBILITY_TIMEOUT_S: Final = 120

#: The same in every app that shares the Redis: the shortest visibility timeout of them all wins.
BROKER_TRANSPORT_OPTIONS: Final[dict[str, Any]] = {
    **SOCKET_OPTIONS,
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    # By default the restore scan runs only about every 100 s.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 30,
}


def connect(url: str, *, patient: bool = False) -> redis.Redis:
    """A pooled client; connects at the first command. Thread-safe, and safe after fork.

    A patient one, for workers, outlasts an outage of some ten minutes; its commands must be
    idempotent, since one whose answer was lost is sent again.
    """
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=2.0), 300 if patient else 2)
    return redis.Redis.from_url(url, retry=retry, **SOCKET_OPTIONS)


def without_password(url: str) -> str:
    """The URL as it may appear in messages and logs."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user_and_host = parts.netloc.rpartition("@")
    user = user_and_host[0].partition(":")[0]
    return parts._replace(netloc=f"{user}:***@{user_and_host[2]}").geturl()


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn whatever redis-py and kombu raise about the connection into ConnectionFailed."""
    try:
        yield
    except (redis.RedisError, KombuError, OSError) as error:
        if isinstance(error, ConnectionFailed):
            raise
        where = without_password(url)
        raise ConnectionFailed(
            f"Redis at {where}: {error}. Is it running, and is BLIPLINE_REDIS_URL right?"
        ) from error
