"""ASGI middleware that counts the bytes of request bodies towards the daily quota of their key."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..http.redis_calls import RedisCalls
from .daily_quotas import DailyQuotas
from .quota_meter import meter_of, settle
from .tenants import Tenant


class BodyQuotaMiddleware:
    """Middleware below the one that authenticates; it raises Problem while a body is read."""

    def __init__(self, app: ASGIApp, quotas: DailyQuotas, calls: RedisCalls) -> None:
        self._app = app
        self._quotas = quotas
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant: Tenant | None = scope.get("state", {}).get("tenant")
        meter = None if tenant is None else meter_of(self._quotas, tenant, "bytes")
        if meter is None:
            await self._app(scope, receive, send)
            return

        async def receive_counted() -> Message:
            message = await receive()
            if size := len(message.get("body", b"")):
                await self._calls.run(meter.count, size)
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            await settle(meter, self._calls)
