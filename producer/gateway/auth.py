"""API key authentication and rate limiting of requests."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_keys import key_id_of
from .key_cache import KeyCache
from .problems import Problem
from .rate_limit import RateLimiter
from .tenants import Tenant

#: Prefix of the paths that need an API key.
PROTECTED_PREFIX: Final = "/v1"


def request_tenant(request: Request) -> Tenant:
    """Return the tenant of a request that `AuthMiddleware` has authenticated."""
    tenant: Tenant = request.state.tenant
    return tenant


async def _request_tenant(request: Request) -> Tenant:
    # FastAPI runs a dependency that is not asynchronous in a thread.
    return request_tenant(request)


#: Dependency of routes.
TenantDependency = Annotated[Tenant, Depends(_request_tenant)]


class AuthMiddleware:
    """ASGI middleware that rejects requests without a valid API key or above its rate limit.

    It is not a dependency of the routes, so it runs before the body is read, and no route can omit
    it.
    """

    def __init__(self, app: ASGIApp, key_cache: KeyCache, rate_limiter: RateLimiter | None) -> None:
        self._app = app
        self._key_cache = key_cache
        self._rate_limiter = rate_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not needs_api_key(scope["path"]):
            await self._app(scope, receive, send)
            return
        key = _bearer_token(Headers(scope=scope))
        name = await self._key_cache.authenticate(key, (scope.get("client") or ("", 0))[0])
        tenant = Tenant(name, key_id_of(key) or "")
        scope.setdefault("state", {})["tenant"] = tenant
        limits = await self._check_rate(tenant)

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in limits.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_limits)

    async def _check_rate(self, tenant: Tenant) -> dict[str, str]:
        """Count the request; return the `RateLimit` headers. Raises Problem."""
        if self._rate_limiter is None:
            return {}
        decision = await self._rate_limiter.acquire(tenant.key_id)
        if not decision.granted:
            wait_s = decision.retry_after_s
            raise Problem(
                "rate_limited",
                f"This API key may make {decision.limit:,} requests per minute: "
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
                headers=decision.headers,
            )
        return decision.headers


def needs_api_key(path: str) -> bool:
    """Return whether requests of a path need an API key."""
    return path == PROTECTED_PREFIX or path.startswith(f"{PROTECTED_PREFIX}/")


def _bearer_token(headers: Headers) -> str:
    """Return the token of the `Authorization` header; raises Problem."""
    values = headers.getlist("authorization")
    scheme, _, key = (values[0] if len(values) == 1 else "").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Problem(
            "unauthorized",
            "Send an API key, created with `blipline keys create NAME`, as "
            "`Authorization: Bearer <key>`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return key.strip()
