"""The interface of item handlers, and the handler without a model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from producer.contract import ItemResult, Task
from worker.consumer.chunk_options import ChunkOptions
from worker.consumer.tracing import ChunkTrace
from worker.engine.request import Answer


@dataclass(slots=True)
class ChunkState:
    """The engine rows of a running chunk, and its cancellation."""

    row_ids: list[int] = field(default_factory=list)
    #: Id of the job or message.
    task_id: str = ""
    cancelled: bool = False
    #: Answers of the engine's steps, and the sum of the rows of these steps.
    step_answers: int = 0
    step_rows: int = 0
    #: None without traces.
    trace: ChunkTrace | None = None

    def count(self, answer: Answer) -> None:
        """Count the rows of the step that completed an answer."""
        self.step_answers += answer.batch_rows > 0
        self.step_rows += answer.batch_rows

    def step(self, name: str) -> AbstractContextManager[None]:
        """Record a block as a step of the trace, if there is one."""
        return nullcontext() if self.trace is None else self.trace.step(name)


class ItemHandler(Protocol):
    """A handler that computes the results of a chunk's items; thread-safe."""

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order; update `state` during processing."""

    def cancel(self, row_ids: list[int]) -> None:
        """Cancel these rows of the engine."""


class NullPipeline:
    """The item handler for `BLIPLINE_MODEL=null`, which measures only the queue.

    It answers each item immediately with its `custom_id`, without image or model.
    """

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order."""
        return [
            {"text": item.get("custom_id") or "" if isinstance(item, dict) else ""}
            for item in items
        ]

    def cancel(self, row_ids: list[int]) -> None:
        """Do nothing: there are no rows."""
