"""Redirect of a path with a trailing slash to the route without it."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.routing import Match, Router
from starlette.types import Receive, Scope, Send


class SlashRedirect:
    """The application for paths without a route: a redirect, or the router's own 404.

    The redirect is relative. Starlette's own one contains the request's `Host`, so a forged header
    would lead elsewhere; a reverse proxy may also serve the gateway under another name and path.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._not_found = router.default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._has_route_without_slash(scope):
            await self._not_found(scope, receive, send)
            return
        name = scope["raw_path"].rstrip(b"/").rpartition(b"/")[2].decode("ascii")
        query = scope["query_string"].decode("latin-1")
        await RedirectResponse(f"../{name}{'?' if query else ''}{query}")(scope, receive, send)

    def _has_route_without_slash(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if not path.endswith("/") or path.endswith("//") or path == "/":
            return False
        shorter = {**scope, "path": path[:-1]}
        return any(route.matches(shorter)[0] is not Match.NONE for route in self._router.routes)
