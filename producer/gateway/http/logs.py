"""Loggers of the gateway, and the id of the current request, which each of its lines contains."""

from __future__ import annotations

import logging
from typing import Final

from ...observability.logs import context

LOGGER: Final = logging.getLogger("blipline.gateway")
ACCESS: Final = logging.getLogger("blipline.gateway.access")


def request_id() -> str:
    """Return the id of the current request; empty outside one."""
    return str(context.get().get("request_id", ""))
