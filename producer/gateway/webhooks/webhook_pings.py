"""Pings of webhook URLs, within limits: a ping occupies a thread for as long as its host wishes."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Self

import redis

from ...connection.connect import redis_errors
from ...ledger.delivery_log import DeliveryLog, WebhookDelivery
from ...ledger.keys import Keys
from ...net.host_limiter import HostLimiter
from ...net.http_client import host_of
from ...webhooks.pinger import WebhookPinger
from ...webhooks.receiver import WebhookClient
from ..access.api_keys import ApiKeys
from ..http.problems import Problem
from ..settings import GatewaySettings

#: Maximum pings in progress, in total and of each name.
MAX_PINGS: Final = 8
MAX_NAME_PINGS: Final = 1


class WebhookPings:
    """The pings of one gateway, for one event loop."""

    def __init__(self, pinger: WebhookPinger, redis_url: str) -> None:
        self._pinger = pinger
        self._redis_url = redis_url
        self._pool: HostLimiter[WebhookDelivery] = HostLimiter(MAX_PINGS, MAX_PINGS, "ping")
        self._in_progress: Counter[str] = Counter()

    @classmethod
    def create(cls, settings: GatewaySettings, connection: redis.Redis) -> Self:
        """Return the pings of a gateway with these settings."""
        client = WebhookClient(settings.webhook_address_policy(), connections=MAX_PINGS)
        keys = Keys(settings.key_prefix)
        secrets_of = ApiKeys(connection, keys).webhook_secrets
        pinger = WebhookPinger(client, secrets_of, DeliveryLog(connection, keys))
        return cls(pinger, settings.redis_url)

    def close(self) -> None:
        """Cancel the pings that have not started, and close the connections."""
        self._pool.close()
        self._pinger.close()

    async def send(self, name: str, url: str) -> WebhookDelivery:
        """Send one ping; raises Problem above the limits, and ConnectionFailed."""
        if self._in_progress.total() >= MAX_PINGS or self._in_progress[name] >= MAX_NAME_PINGS:
            detail = f"{name} or other names have pings in progress: try again after their end"
            raise Problem("rate_limited", detail, retry_after_s=1)
        self._in_progress[name] += 1
        ping = self._pool.submit(host_of(url), partial(self._pinger.ping, name, url))
        # The thread continues although the client has disconnected, and counts until its end.
        loop = asyncio.get_running_loop()
        ping.add_done_callback(partial(self._on_done, loop, name))
        with redis_errors(self._redis_url):
            return await asyncio.shield(asyncio.wrap_future(ping))

    def _on_done(self, loop: asyncio.AbstractEventLoop, name: str, _: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release, name)

    def _release(self, name: str) -> None:
        self._in_progress[name] -= 1
        self._in_progress += Counter()  # removes names without pings
