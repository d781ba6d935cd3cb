"""SSRF guard of new webhooks: it refuses a URL that the sender would block later."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from ...aio.single_flight import SingleFlight
from ...net.address_policy import AddressBlocked, AddressPolicy
from ...net.http_client import Resolve, check_url, host_of
from ..http.lru import LRUCache
from ..http.problems import Problem

#: Maximum seconds that a submission waits for the resolver.
RESOLVE_S: Final = 1.0
#: Threads that resolve names; no other call uses them, since a name server may be slow.
THREADS: Final = 8
#: Maximum look-ups of one submitter at a time; slow names occupy no more threads.
MAX_LOOKUPS: Final = 2
#: Seconds for which an allowed host is cached, and the maximum number of cached hosts.
CACHE_S: Final = 60.0
MAX_CACHED_HOSTS: Final = 4096


class WebhookGuard:
    """A check of webhook URLs at submission, for one event loop.

    A host that does not resolve in time passes, and so does one whose submitter has MAX_LOOKUPS in
    progress. The sender checks every request again, because by then the name may resolve to another
    address.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        resolve: Resolve = socket.getaddrinfo,
        resolve_s: float = RESOLVE_S,
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._resolve_s = resolve_s
        self._pool = ThreadPoolExecutor(THREADS, "webhook-guard")
        self._checks: SingleFlight[str, None] = SingleFlight()
        self._lookups: Counter[str] = Counter()
        #: Expiry of the allowed hosts, in time.monotonic() seconds.
        self._allowed: LRUCache[str, float] = LRUCache(MAX_CACHED_HOSTS)

    async def check(self, url: str | None, submitter: str) -> None:
        """Raise Problem if the guard blocks this URL of a webhook; None stands for no webhook."""
        if url is None or (self._allowed.get(host := host_of(url)) or 0.0) > time.monotonic():
            return
        try:
            async with asyncio.timeout(self._resolve_s):
                await self._checks.get(host, partial(self._check, url, submitter))
        except (TimeoutError, _TooManyLookups):
            return
        except AddressBlocked as error:
            detail = f"webhook: {error}: choose a host that may receive webhooks"
            raise Problem("option_invalid", f"{detail} (BLIPLINE_WEBHOOK_ALLOW)") from None
        self._allowed.put(host, time.monotonic() + CACHE_S)

    async def _check(self, url: str, submitter: str) -> None:
        if self._lookups[submitter] >= MAX_LOOKUPS:
            raise _TooManyLookups
        self._lookups[submitter] += 1
        try:
            call = partial(check_url, self._policy, url, self._resolve)
            await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._lookups[submitter] -= 1
            self._lookups += Counter()  # removes names without look-ups


class _TooManyLookups(Exception):
    """A submitter resolves as many names as it may."""
