"""The cores that this process may use, and their division among process trees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

_CPUS: Final = Path("/sys/devices/system/cpu")


def usable_cores() -> set[int]:
    """Return the cores that this process may use."""
    return os.sched_getaffinity(0)


def divide_cores(cores: Set[int], parts: int, cpus: Path = _CPUS) -> list[set[int]]:
    """Return an equal share of the cores for each part; parts share a core only if they must.

    The threads of a physical core, and the cores of a socket, stay together.
    """
    ordered = sorted(cores, key=lambda core: (*_location(cpus / f"cpu{core}"), core))
    if parts >= len(ordered):
        return [{ordered[part % len(ordered)]} for part in range(parts)]
    bounds = [part * len(ordered) // parts for part in range(parts + 1)]
    return [set(ordered[start:end]) for start, end in pairwise(bounds)]


def _location(cpu: Path) -> tuple[int, int]:
    """Return the numbers of a core's socket and of its physical core; zeros if they are unknown."""
    try:
        topology = cpu / "topology"
        package = int((topology / "physical_package_id").read_text())
        return package, int((topology / "core_id").read_text())
    except (OSError, ValueError):
        return 0, 0


@contextmanager
def pinned(cores: Set[int] | None) -> Iterator[None]:
    """Give processes that start within the block these cores; None: those of this thread."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
