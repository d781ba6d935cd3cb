"""Parallel lanes of the test run, each a process of pytest-xdist; tests/conftest.py registers this.

A lane has its own Redis (a session fixture), ports that no other lane gets (`demo.stack.free_port`)
and its own directory for temporary files and for the run directories of workers.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from typing import Final

import pytest

#: Folders with slow tests, the slowest first: a slow module that starts last keeps one lane busy
#: while the others are idle.
SLOW: Final = ("system", "page", "faults", "examples", "demo", "images", "gateway", "models")

IS_LANE: Final = "PYTEST_XDIST_WORKER" in os.environ

if IS_LANE:
    # Lanes share the cores: a thread of torch that waits must not spin.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow folders first where lanes share the work."""
    ranks = {folder: rank for rank, folder in enumerate(SLOW)}
    if IS_LANE:
        items.sort(key=lambda item: ranks.get(item.path.parent.name, len(SLOW)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from the million objects that the imports of tests create."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory() -> Iterator[None]:
    """Give this run a TMPDIR of its own: default run directories must not collide.

    Its path is short: the path of a Unix socket has at most about a hundred bytes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bl-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", None)
        yield
