"""Eviction: a Redis that may delete keys when it is full must not hold jobs."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import redis

from ..errors import ConnectionFailed, InvalidInput
from .connect import connect, redis_errors
from .url import redact_password

log = logging.getLogger("blipline.redis")

_REMEDY = (
    "set `maxmemory-policy noeviction` (CONFIG SET maxmemory-policy noeviction, and the "
    "server's configuration file or parameter group)"
)


def check_eviction(client: redis.Redis, url: str) -> None:
    """Raise InvalidInput if Redis may evict queued jobs.

    Log a warning if it may evict results and uploads only, or does not show its policy.
    """
    policy, server = read_policy(client), redact_password(url)
    if policy is not None and evicts_jobs(policy):
        raise InvalidInput(f"Redis at {server}: {describe(policy)}")
    if policy is None:
        log.warning(
            "Redis at %s: this user may read its eviction policy neither with INFO nor with CONFIG "
            "GET. Under an allkeys-* policy a full Redis deletes queued jobs: %s",
            server,
            _REMEDY,
        )
    elif policy != "noeviction":
        log.warning("Redis at %s: %s", server, describe(policy))


def check_reachable_redis(url: str) -> None:
    """Check the policy as `check_eviction` does; do nothing if Redis is unreachable now."""
    with suppress(ConnectionFailed), redis_errors(url), connect(url) as client:
        check_eviction(client, url)


def read_policy(client: redis.Redis) -> str | None:
    """Return the `maxmemory-policy`; None if this user may not read it."""
    with suppress(redis.ResponseError):
        memory: dict[str, Any] = client.info("memory")
        if "maxmemory_policy" in memory:
            return str(memory["maxmemory_policy"])
    with suppress(redis.ResponseError):
        settings: Any = client.config_get("maxmemory-policy")
        policy = settings.get("maxmemory-policy")
        return None if policy is None else str(policy)
    return None


def evicts_jobs(policy: str) -> bool:
    """Return whether keys without a time to live, such as queued jobs, may be evicted."""
    return policy.startswith("allkeys-")


def describe(policy: str) -> str:
    """Return the effect of an evicting policy, and the remedy."""
    victims = "queued jobs" if evicts_jobs(policy) else "results and uploaded images early"
    return f"its maxmemory-policy {policy} deletes {victims} when memory is full: {_REMEDY}"


class PolicyMonitor:
    """A monitor that logs a warning when the policy of a running Redis begins to evict keys."""

    def __init__(self, policy: str = "noeviction") -> None:
        self._policy = policy

    def observe(self, policy: str | None) -> None:
        """Log a change to an evicting policy; None: unknown."""
        if policy is None or policy == self._policy:
            return
        self._policy = policy
        if policy != "noeviction":
            log.warning("Redis: %s", describe(policy))
