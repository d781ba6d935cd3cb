"""Running systems for the tests of the page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

import producer.page
from tests.page.visitor import IDLE_ROOM, Served, serving, serving_idle


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    """Return a system with a worker, and with a gateway in a process of its own."""
    with serving() as served:
        yield served


@pytest.fixture(scope="package")
def page_environment() -> Iterator[None]:
    """Remove the variables that a page in this process sets for Gradio, after its tests."""
    with mock.patch.dict(os.environ):
        yield
    producer.page._configure_gradio.cache_clear()


@pytest.fixture(scope="package")
def idle(page_environment: None) -> Iterator[Served]:
    """Return a system without a worker, and with room for IDLE_ROOM items."""
    with serving_idle(max_queued_interactive=IDLE_ROOM) as served:
        yield served
