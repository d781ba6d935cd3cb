"""The trace of a chunk in a consumer: time in the queue, fetch, encode, decode, stored result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from producer.contract import Task
from producer.ledger.ids import parse_chunk_id
from producer.observability import tracing
from worker.consumer.chunk_log import ids_of
from worker.engine.request import Answer


class ChunkTrace:
    """The span of a chunk, from its submission to its stored result, and the spans of its steps.

    A single job continues the trace of its submission. A chunk of a batch begins a trace of its
    own, with a link to that of the batch: a trace of a large batch would be too large to show.
    """

    def __init__(self, traceparent: str) -> None:
        self._traceparent = traceparent
        self._span: Any = None

    def start(self, task_id: str, task: Task, waited_s: float | None) -> None:
        """Start the span with the submission, which was `waited_s` ago."""
        now = time.time()
        submitted_s, is_chunk = now - (waited_s or 0.0), parse_chunk_id(task_id) is not None
        self._span = tracing.start_span(
            "chunk" if is_chunk else "job",
            kind="CONSUMER",
            parent="" if is_chunk else self._traceparent,
            link=self._traceparent if is_chunk else "",
            start_s=submitted_s,
            attributes={f"blipline.{name}": value for name, value in ids_of(task_id).items()}
            | {"blipline.task": task.short},
        )
        self._record("queue wait", submitted_s, now)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record the block as a step."""
        started_s = time.time()
        try:
            yield
        finally:
            self._record(name, started_s, time.time())

    def record_answer(self, answer: Answer) -> None:
        """Record the steps of the engine, whose clock is this machine's monotonic clock."""
        offset_s = time.time() - time.monotonic()
        if answer.times is not None:
            arrived_s, encoded_s, ended_s = (offset_s + moment for moment in answer.times)
            self._record("encode", arrived_s, encoded_s)
            self._record("decode", encoded_s, ended_s, tokens=answer.tokens)

    def end(self) -> None:
        """End the span of the chunk."""
        span, self._span = self._span, None
        if span is not None:
            span.end()

    def _record(self, name: str, started_s: float, ended_s: float, **attributes: Any) -> None:
        if self._span is not None:
            values = {f"blipline.{key}": value for key, value in attributes.items()}
            span = tracing.start_span(name, parent=self._span, start_s=started_s, attributes=values)
            if span is not None:
                span.end(tracing.nanoseconds(ended_s))


def chunk_trace(request: Any) -> ChunkTrace | None:
    """Return the trace of a task's message; None if traces are off."""
    header = getattr(request, "traceparent", None)
    return ChunkTrace(header if isinstance(header, str) else "") if tracing.is_on() else None
