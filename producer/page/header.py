"""The page's header: the tenant's name and the queue depths."""

from __future__ import annotations

import time
from typing import Final

import gradio as gr

from ..errors import BliplineError
from ..gateway.state import Gateway
from ..ledger.records import Depth
from . import views

#: Seconds for which the queue depths are cached for all open pages.
CACHE_S: Final = 2.0


class PageHeader:
    """The header's view, with cached queue depths."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._depth: Depth | None = None
        self._expires_at = 0.0

    async def render(self, request: gr.Request) -> str:
        """Return the header for a request's tenant."""
        return views.header(
            request.username or "",
            await self._read_depth(),
            can_leave=not self._gateway.settings.page_open_as,
        )

    async def _read_depth(self) -> Depth | None:
        if time.monotonic() >= self._expires_at:
            self._expires_at = time.monotonic() + CACHE_S
            try:
                self._depth = await self._gateway.client.depth()
            except BliplineError:
                self._depth = None
        return self._depth
