"""The producer of `benchmarks.scale`, in a separate process with its own memory and time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from producer import Client
from producer.contract import CHUNK_ITEMS

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submitted:
    """Time and memory of submitting a batch."""

    batch_id: str
    seconds: float
    cpu_s: float
    #: Peak of resident memory after a tenth of the items, and at the end.
    early_bytes: int
    late_bytes: int


def in_process(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a new process and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(partial(call, *args, **kwargs)).result()


def submit_urls(redis_url: str, count: int, chunk_items: int = CHUNK_ITEMS) -> Submitted:
    """Submit a batch of URLs from a generator."""
    return _submit(redis_url, _urls(count), count, chunk_items)


def submit_bytes(redis_url: str, count: int, size: int) -> Submitted:
    """Submit a batch of uploads: distinct strings of `size` bytes in place of images."""
    start = os.urandom(size - 8)
    return _submit(
        redis_url, (number.to_bytes(8) + start for number in range(count)), count, CHUNK_ITEMS
    )


def _urls(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        image = f"https://images.example.com/collection/{number:07d}.jpg"
        yield {"image": image, "custom_id": str(number)}


def _submit(
    redis_url: str,
    items: Iterator[dict[str, str]] | Iterator[bytes],
    count: int,
    chunk_items: int,
) -> Submitted:
    early = 0

    def record_early(total: int) -> None:
        nonlocal early
        if not early and total >= count / 10:
            early = _peak_bytes()

    with Client(redis_url) as client:
        started, cpu_started = time.perf_counter(), time.process_time()
        batch = client.submit_batch(items, chunk_items=chunk_items, on_submitted=record_early)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    return Submitted(batch.id, seconds, cpu_s, early, _peak_bytes())


def _peak_bytes() -> int:
    """Return the peak of resident memory; getrusage would include the forking process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
