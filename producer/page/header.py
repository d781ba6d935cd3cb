"""The head of the page: who is signed in, and how much is open."""

from __future__ import annotations

import time
from typing import Final

import gradio as gr

from ..errors import BliplineError
from ..gateway.state import Gateway
from ..ledger.records import Depth
from . import views

#: Seconds for which one look serves all open pages.
FRESH_S: Final = 2.0


class Queues:
    """How much is open, asked for once however many pages want to know."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._depth: Depth | None = None
        self._fresh_until = 0.0

    async def header(self, request: gr.Request) -> str:
        """The head of the page."""
        return views.header(
            request.username or "",
            await self._look(),
            can_leave=not self._gateway.settings.page_open_as,
        )

    async def _look(self) -> Depth | None:
        if time.monotonic() >= self._fresh_until:
            self._fresh_until = time.monotonic() + FRESH_S
            try:
                self._depth = await self._gateway.client.depth()
            except BliplineError:
                self._depth = None
        return self._depth
