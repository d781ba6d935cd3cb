"""Who calls: a name for each API key, and how much it may ask for."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_keys import id_of
from .key_cache import KeyCache
from .problems import Problem
from .rate_limit import RateLimiter
from .tenants import Tenant

#: What needs a key.
GUARDED: Final = "/v1"


def caller_of(request: Request) -> Tenant:
    """Who sent a request that needs a key; the middleware has seen to it."""
    caller: Tenant = request.state.caller
    return caller


async def _caller_of(request: Request) -> Tenant:
    # FastAPI calls in a thread what is not asynchronous.
    return caller_of(request)


#: For the routes.
CallerDependency = Annotated[Tenant, Depends(_caller_of)]


class Access:
    """Lets nobody past who has no valid key, or asks too often (pure ASGI).

    Not a dependency of the routes: it comes before the body is read, and no route can forget it.
    """

    def __init__(self, app: ASGIApp, keyring: KeyCache, rates: RateLimiter | None) -> None:
        self._app = app
        self._keyring = keyring
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        key = _key_in(Headers(scope=scope))
        name = await self._keyring.name_of(key, (scope.get("client") or ("", 0))[0])
        caller = Tenant(name, id_of(key) or "")
        scope.setdefault("state", {})["caller"] = caller
        limits = await self._count(caller)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in limits.items()]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, send_on)

    async def _count(self, caller: Tenant) -> dict[str, str]:
        """The headers that say what is left."""
        if self._rates is None:
            return {}
        allowance = await self._rates.take(caller.key_id)
        if not allowance.granted:
            wait_s = allowance.retry_after_s
            raise Problem(
                "rate_limited",
                f"This API key may make {allowance.limit:,} requests a minute: "
                f"try again in {wait_s} s",
                retry_after_s=wait_s,
                headers=allowance.headers,
            )
        return allowance.headers


def is_guarded(path: str) -> bool:
    """Whether a path needs a key."""
    return path == GUARDED or path.startswith(f"{GUARDED}/")


def _key_in(headers: Headers) -> str:
    """What stands after ``Bearer``; raises Problem."""
    given = headers.getlist("authorization")
    scheme, _, key = (given[0] if len(given) == 1 else "").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Problem(
            "unauthorized",
            "Send an API key, which `blipline keys create NAME` makes, as "
            "`Authorization: Bearer <key>`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return key.strip()
