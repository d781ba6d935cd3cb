"""Samples of memory and handles of all processes of a stack, and their slopes (Linux)."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

#: A part of the command line of each process.
ROLES: Final = {
    "engine": "\0worker.engine\0",
    "interactive consumer": "\0-Q\0interactive\0",
    "bulk consumer": "\0-Q\0bulk\0",
    "supervisor": "\0-m\0worker\0",
    "gateway": "\0gateway\0",
    "redis-server": "redis-server",
}


@dataclass(frozen=True)
class Sample:
    """The values of one moment, by name."""

    items: int
    values: Mapping[str, float]


def take_sample(items: int, connection: redis.Redis) -> Sample:
    """Return the values of this process's descendants and of Redis after so many items."""
    values: dict[str, float] = {}
    for process, command in _descendants():
        role = next((role for role, part in ROLES.items() if part in command), None)
        if role is not None:
            values |= _values_of(process, role)
    memory: Any = connection.info("memory")
    clients: Any = connection.info("clients")
    values["Redis: MiB of data"] = memory["used_memory"] / 2**20
    values["Redis: keys"] = float(str(connection.dbsize()))
    values["Redis: connections"] = clients["connected_clients"]
    return Sample(items, values)


def _descendants() -> Iterator[tuple[int, str]]:
    """Yield the processes below this one, with their command lines."""
    parents: dict[int, tuple[int, str]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_text()
            command = Path("/proc", name, "cmdline").read_text(errors="replace")
        except OSError:
            continue
        parents[int(name)] = int(stat.rpartition(")")[2].split()[1]), command
    for process, (_, command) in parents.items():
        ancestor = process
        while ancestor in parents:
            ancestor = parents[ancestor][0]
            if ancestor == os.getpid():
                yield process, command
                break


def _values_of(process: int, role: str) -> dict[str, float]:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        handles = len(os.listdir(f"/proc/{process}/fd"))
        threads = len(os.listdir(f"/proc/{process}/task"))
    except OSError:
        return {}
    return {
        f"{role}: MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        f"{role}: file handles": handles,
        f"{role}: threads": threads,
    }


@dataclass(frozen=True)
class Trend:
    """The course of one value over the second half of the items."""

    name: str
    first: float
    last: float
    #: Change for each 10,000 items, by a regression.
    slope: float

    @property
    def is_count(self) -> bool:
        """True for handles, threads and connections, which must not grow at all."""
        return "MiB" not in self.name and "keys" not in self.name


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Return the trend of each value: medians of the second half's ends, and its slope."""
    half = [sample for sample in samples if sample.items >= samples[-1].items / 2]
    quarter = max(1, len(half) // 4)
    result = []
    for name in samples[-1].values:
        series = [(sample.items / 10_000, sample.values[name]) for sample in half]
        items, values = zip(*series, strict=True)
        slope = statistics.linear_regression(items, values).slope if len(half) > 1 else 0.0
        first, last = (statistics.median(part) for part in (values[:quarter], values[-quarter:]))
        result.append(Trend(name, first, last, slope))
    return result
