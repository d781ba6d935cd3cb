"""The checks of `benchmarks.soak`: answers, and leaks of an idle engine."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from math import isclose
from pathlib import Path
from typing import Final, NamedTuple

from worker.engine.engine import Engine
from worker.engine.request import Answer
from worker.engine.row import Row
from worker.engine.thread_coroutine import ThreadCoroutine

#: Maximum difference of scores and vectors between a row in a batch and a single row.
TOLERANCE: Final = 1e-4


class Memory(NamedTuple):
    """Memory of the process while the engine is idle."""

    rows: int
    resident_bytes: int
    objects: int


def equal_answers(first: Answer, second: Answer) -> bool:
    """Return whether two answers are equal; scores and vectors up to rounding."""
    values = [
        [*answer.embedding, *(score for pair in answer.scores for score in pair)]
        for answer in (first, second)
    ]
    return (first.text, first.tokens, first.error_code, len(values[0])) == (
        second.text,
        second.tokens,
        second.error_code,
        len(values[1]),
    ) and all(isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(*values, strict=True))


class References(NamedTuple):
    """Rows and searches of this process that are still referenced, and threads of searches."""

    objects: int
    threads: frozenset[threading.Thread]


def references() -> References:
    """Count the present rows and searches, and collect the threads of searches."""
    gc.collect()
    threads = (t for t in threading.enumerate() if t.name == "thread-coroutine")
    objects = sum(type(item) in (Row, ThreadCoroutine) for item in gc.get_objects())
    return References(objects, frozenset(threads))


def leaks(engine: Engine, before: References) -> Iterator[str]:
    """Yield the state that an idle engine should not have.

    `before` are the `references` before the engine was created, those of other engines.
    """
    decoding, beams = engine.decoding, engine.beams
    assert decoding is not None
    assert beams is not None
    state = {
        "not idle": not engine.idle,
        "live requests": engine._rows_by_id,
        "shared rows": engine._rows_by_identity,
        "deadlines": engine._deadlines,
        "answers": engine._answers,
        "slots": decoding.slots.count or decoding.slots.source_lengths,
        "decoding rows": decoding.rows or decoding.scheduler,
        "sampling states": decoding.sampler._rows,
        "groups": beams._groups or beams._retries or beams._rows or beams._search,
        "matching rows": engine.matching and (engine.matching.active or engine.matching.waiting),
        "threads": running(references().threads - before.threads),
        "referenced rows and searches": max(0, references().objects - before.objects),
    }
    yield from (f"leak: {name} {value}" for name, value in state.items() if value)
    for encoder in engine.encoders:
        cache = encoder.cache
        cached_bytes = sum(feature.nbytes for feature in cache._features.values())
        if not cached_bytes == cache.bytes <= cache.max_bytes:
            yield f"feature cache: {cache.bytes} of {cache.max_bytes} bytes"


def running(threads: frozenset[threading.Thread]) -> list[threading.Thread]:
    """Return those of the threads that do not end within a second."""
    for thread in threads:
        thread.join(1)
    return [thread for thread in threads if thread.is_alive()]


def memory(rows: int) -> Memory:
    """Measure the present memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Memory(rows, pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects()))
