"""A limit of the concurrent requests of each name: event streams, waits and uploads included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..http.problems import Problem


class ConcurrencyLimiter:
    """A limiter of one process, for one event loop. A limit of 0 means unlimited.

    Each request occupies a connection of the server, however little it does.
    """

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._requests: Counter[str] = Counter()

    @contextmanager
    def request(self, name: str) -> Iterator[None]:
        """Count a request of a name within the block; raises Problem above the limit."""
        if 0 < self._max_requests <= self._requests[name]:
            raise Problem(
                "rate_limited",
                f"{name} has {self._max_requests:,} requests in progress, event streams and waits "
                "included (BLIPLINE_GATEWAY_MAX_CONCURRENT): close some of them",
                retry_after_s=1,
            )
        self._requests[name] += 1
        try:
            yield
        finally:
            self._requests[name] -= 1
            if not self._requests[name]:
                del self._requests[name]
