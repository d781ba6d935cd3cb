"""Packages of the extra `search`, imported when they are needed."""

from __future__ import annotations

from typing import Any

from ..image_sources import extras


def required(module: str) -> Any:
    """Import a module of the extra; raises InvalidInput that names the remedy."""
    return extras.required(module, "search")
