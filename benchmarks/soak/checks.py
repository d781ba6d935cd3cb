"""What `benchmarks.soak` looks at: answers, and what an engine at rest still holds."""

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

#: Scores and vectors of a row in a batch may differ by so much from those of the row alone.
CLOSE: Final = 1e-4


class Memory(NamedTuple):
    """At a moment of rest."""

    rows: int
    resident_bytes: int
    objects: int


def alike(one: Answer, other: Answer) -> bool:
    """The same texts; scores and vectors but for rounding."""
    figures = [
        [*answer.embedding, *(score for pair in answer.scores for score in pair)]
        for answer in (one, other)
    ]
    return (one.text, one.tokens, one.error_code, len(figures[0])) == (
        other.text,
        other.tokens,
        other.error_code,
        len(figures[1]),
    ) and all(isclose(a, b, abs_tol=CLOSE) for a, b in zip(*figures, strict=True))


def alive() -> int:
    """Rows and searches that somebody still refers to."""
    gc.collect()
    return sum(type(one) in (Row, ThreadCoroutine) for one in gc.get_objects())


def leftovers(engine: Engine, before: int) -> Iterator[str]:
    """What an engine holds that has nothing to do. Nothing, if all is well.

    `before` objects were `alive` before it was made.
    """
    decoding, grouped = engine.decoding, engine.beams
    assert decoding is not None
    assert grouped is not None
    held = {
        "not idle": not engine.idle,
        "live requests": engine._live,
        "shared rows": engine._shared,
        "deadlines": engine._deadlines,
        "answers": engine._answers,
        "slots": decoding.slots.count or decoding.slots.source_lengths,
        "decoding rows": decoding.rows or decoding.scheduler,
        "controls": decoding.sampler._rows,
        "groups": grouped._groups or grouped._again or grouped._rows or grouped._search,
        "matching rows": engine.matching and (engine.matching.active or engine.matching.waiting),
        "rows and searches somewhere": max(0, alive() - before),
        "threads": any(one.name == "thread-coroutine" and one.is_alive() for one in rested_threads()),
    }
    yield from (f"left over: {name} {what}" for name, what in held.items() if what)
    for encoder in engine.encoders:
        cache = encoder.cache
        held_bytes = sum(one.nbytes for one in cache._features.values())
        if not held_bytes == cache.bytes <= cache.max_bytes:
            yield f"feature cache: {cache.bytes} of {cache.max_bytes} bytes"


def rested_threads() -> list[threading.Thread]:
    """Threads that are about to end get the time to."""
    for thread in threading.enumerate():
        if thread.name == "thread-coroutine":
            thread.join(1)
    return threading.enumerate()


def memory(rows: int) -> Memory:
    """As it is now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Memory(rows, pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects()))
