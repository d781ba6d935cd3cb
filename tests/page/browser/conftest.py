"""Chromium and the visitors of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.page.visitor import Served, Visitor, running_browser


# Not longer than this package: asyncio.run does not work while Playwright's event loop is open.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Return a Chromium."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Return a fresh visitor; check that its page had no error and no external request."""
    visitor = Visitor(browser, served)
    yield visitor
    visitor.close()
    check(visitor)


# A load of the page takes two seconds of processor time.
@pytest.fixture(scope="module")
def signed_in(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Return a visitor that stays signed in as acme for a module."""
    yield from stay(browser, served)


@pytest.fixture(scope="module")
def signed_in_idle(browser: Browser, idle: Served) -> Iterator[Visitor]:
    """Return such a visitor of the system without a worker."""
    yield from stay(browser, idle)


@pytest.fixture
def regular(signed_in: Visitor) -> Iterator[Visitor]:
    """Return that visitor on its first tab, with the inputs of the tests before; check its page."""
    yield from start_over(signed_in)


@pytest.fixture
def waiting(signed_in_idle: Visitor) -> Iterator[Visitor]:
    """Return the visitor of the system without a worker likewise."""
    yield from start_over(signed_in_idle)


def stay(browser: Browser, served: Served) -> Iterator[Visitor]:
    visitor = Visitor(browser, served)
    visitor.sign_in()
    yield visitor
    visitor.close()


def start_over(visitor: Visitor) -> Iterator[Visitor]:
    visitor.tab("Caption")
    yield visitor
    check(visitor)


def check(visitor: Visitor) -> None:
    """Check that the page had no error and no external request."""
    assert visitor.errors == []
    assert visitor.external_requests == []
