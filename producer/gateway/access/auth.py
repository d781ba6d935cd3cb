"""API key authentication and rate limiting of requests."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..http.problems import Problem
from .concurrency import ConcurrencyLimiter
from .event_tokens import token_of_request
from .key_cache import KeyCache
from .permissions import check_request
from .rate_limit import RateLimiter
from .tenants import Tenant

#: Paths that need an API key, with all below them.
_PROTECTED: Final = ("/v1", "/openai", "/hf", "/replicate")
_BELOW_PROTECTED: Final = tuple(f"{path}/" for path in _PROTECTED)


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

    def __init__(
        self,
        app: ASGIApp,
        key_cache: KeyCache,
        rate_limiter: RateLimiter,
        concurrency: ConcurrencyLimiter,
    ) -> None:
        self._app = app
        self._key_cache = key_cache
        self._rate_limiter = rate_limiter
        self._concurrency = concurrency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not needs_api_key(scope["path"]):
            await self._app(scope, receive, send)
            return
        tenant = await self._authenticate(scope)
        scope.setdefault("state", {})["tenant"] = tenant
        limits = await check_rate(self._rate_limiter, tenant)
        check_request(tenant.policy, scope["method"], scope["path"])

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in limits.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        with self._concurrency.request(tenant.name):
            await self._app(scope, receive, send_with_limits)

    async def _authenticate(self, scope: Scope) -> Tenant:
        """Return the tenant of a key, or of a token for the events of a batch; raises Problem."""
        headers, address = Headers(scope=scope), (scope.get("client") or ("", 0))[0]
        token = token_of_request(scope["path"], scope.get("query_string", b""))
        if token is not None and "authorization" not in headers:
            return Tenant.of(await self._key_cache.authenticate_token(*token, address))
        return Tenant.of(await self._key_cache.authenticate(_bearer_token(headers), address))


async def check_rate(rate_limiter: RateLimiter, tenant: Tenant) -> dict[str, str]:
    """Count a request of the API or the page; return the `RateLimit` headers. Raises Problem."""
    per_minute = tenant.policy.rate or rate_limiter.per_minute
    if not per_minute:
        return {}
    # The open page has no key.
    decision = await rate_limiter.acquire(tenant.key_id or tenant.name, per_minute)
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
    return path.startswith(_BELOW_PROTECTED) or path in _PROTECTED


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
