"""Running systems and Chromium for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.visitor import IDLE_ROOM, Served, Visitor, running_browser, serving


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


# Not longer than a module: asyncio.run does not work while Playwright's event loop is open.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a Chromium for a module."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Return a fresh visitor; check that its page had no error and no external request."""
    visitor = Visitor(browser, served, viewport={"width": 1280, "height": 860})
    yield visitor
    visitor.close()
    assert visitor.errors == []
    assert visitor.external_requests == []
