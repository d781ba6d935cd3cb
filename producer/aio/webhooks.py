"""The delivery log of webhooks, read in the thread pools of an AsyncClient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..client.webhook_log import WebhookLog
from ..ledger.delivery_log import WebhookDelivery
from .thread_pools import ThreadPools


class AsyncWebhookLog:
    """The delivery log of one Redis; the methods have the arguments of WebhookLog."""

    def __init__(self, log: WebhookLog, threads: ThreadPools) -> None:
        self._log = log
        self._threads = threads

    async def list(self, *args: Any, **kwargs: Any) -> Sequence[WebhookDelivery]:
        """Return attempts for a name of API keys as WebhookLog.list does."""
        return await self._threads.run("call", self._log.list, *args, **kwargs)

    async def of_batch(self, batch_id: str) -> Sequence[WebhookDelivery]:
        """Return the attempts for a batch, the newest first."""
        return await self._threads.run("call", self._log.of_batch, batch_id)

    async def resend(self, *args: Any, **kwargs: Any) -> WebhookDelivery:
        """Send the webhook of an attempt again as WebhookLog.resend does."""
        return await self._threads.run("call", self._log.resend, *args, **kwargs)
