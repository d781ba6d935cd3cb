"""The whole system and Chromium, for a file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.visitor import Served, Visitor, running_browser, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One system for a file of tests."""
    with serving(worker=True) as served:
        yield served


@pytest.fixture(scope="module")
def idle() -> Iterator[Served]:
    """A system that no worker serves, with room for two items."""
    bounds = {"BLIPLINE_MAX_QUEUED_INTERACTIVE": "2"}
    with serving(worker=False, settings=bounds) as served:
        yield served


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """A system that no worker serves, with room for all that is asked."""
    with serving(worker=False) as served:
        yield served


# No longer than a file of tests: Playwright's loop runs for as long as it is open, and asyncio.run
# refuses to work meanwhile.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a file of tests."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Somebody with a fresh browser, whose page must neither complain nor call anybody else."""
    visitor = Visitor(browser, served, viewport={"width": 1280, "height": 860})
    yield visitor
    visitor.close()
    assert visitor.errors == []
    assert visitor.outside == []
