"""Running systems for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.page.visitor import IDLE_ROOM, Served, serving


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    """Return a system with a worker."""
    with serving(worker=True) as served:
        yield served


@pytest.fixture(scope="package")
def idle() -> Iterator[Served]:
    """Return a system without a worker, and with room for IDLE_ROOM items."""
    settings = {"BLIPLINE_MAX_QUEUED_INTERACTIVE": str(IDLE_ROOM)}
    with serving(worker=False, settings=settings) as served:
        yield served
