"""Groups of rows that one call of transformers' own `generate` decodes together.

A group advances by one token in each step of the engine, and runs alone in its lane. Rows of a
group have equal options; sampled rows are drawn with each row's own generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from worker.engine.halving import Failure, failure_of
from worker.engine.model import TextGenerator, TokenSequence
from worker.engine.multinomial import RowMultinomial, seeded_generator
from worker.engine.request import GenerationOptions
from worker.engine.row import Row
from worker.engine.scheduler import Scheduler
from worker.engine.thread_coroutine import Suspend, ThreadCoroutine

#: The sequences of each row, the best first.
Sequences = list[list[TokenSequence]]


class GroupLane(ABC):
    """A lane that runs one group of rows at a time; a group that fails is halved."""

    is_decoding = False

    def __init__(self, writer: TextGenerator, max_rows: int) -> None:
        self.writer, self.max_rows, self.device = writer, max_rows, writer.device
        #: Maximum images encoded when a group starts.
        self.max_images = max_rows
        self._groups: dict[Hashable, Scheduler[Row]] = {}
        #: Halves of groups that failed; they run before anything else.
        self._retries: deque[list[Row]] = deque()
        self.admitted: list[Row] = []
        self._rows: list[Row] = []
        self._search: ThreadCoroutine[Sequences] | None = None

    @abstractmethod
    def group_key(self, row: Row) -> Hashable:
        """Return a key that is equal for rows of one group, besides their options."""

    @abstractmethod
    def group_limit(self, options: GenerationOptions) -> int:
        """Return the maximum rows of a group with these options."""

    @abstractmethod
    def generate(self, rows: list[Row], suspend: Suspend) -> Sequences:
        """Return each row's sequences, none of a row with a failure.

        Call `suspend` after each token; True ends the call.
        """

    def load(self, rows: list[Row]) -> None:
        """Load the images of rows that start; set the failure of each that cannot run."""
        return

    def failure_of(self, error: Exception) -> Failure:
        """Return the Failure of a single row whose group raised `error`."""
        return failure_of(error)

    @property
    def active(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._groups.values())) + sum(map(len, self._retries))

    def add(self, row: Row) -> None:
        # Rows with different seeds share a group.
        options = replace(row.options, seed=None)
        key = (options, self.group_key(row))
        if key not in self._groups:
            limit = self.group_limit(options)
            self._groups[key] = Scheduler(limit)
            self._groups[key].max_images = min(self.max_images, limit)
        self._groups[key].add(row)

    def promote(self, row: Row) -> None:
        for group in self._groups.values():
            group.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Remove a row whose group has not started."""
        return any(group.remove(row) for group in self._groups.values())

    def step(self) -> list[Row]:
        """Start the next group if none runs, advance it by one token, and return the ended rows."""
        ended: list[Row] = []
        if self._search is None:
            ended += self._start_group()
        if self._search is not None:
            if all(row.failure is not None for row in self._rows):
                self._search.stop()
            if self._search.step():
                ended += self._end_group(self._search)
        return ended

    def _start_group(self) -> list[Row]:
        """Admit and load the next group; return the rows that failed."""
        rows = self._retries.popleft() if self._retries else self._admit()
        if not rows:
            return []
        self.load([row for row in rows if row.failure is None])
        self._rows = [row for row in rows if row.failure is None]
        if self._rows:
            self._search = ThreadCoroutine(self._generate)
        return [row for row in rows if row.failure is not None]

    def _admit(self) -> list[Row]:
        """Admit the rows of a group with interactive rows, or else of the oldest group."""
        self._groups = {key: group for key, group in self._groups.items() if len(group)}
        interactive = [group for group in self._groups.values() if group.has_interactive]
        for group in [*interactive, *self._groups.values()]:
            rows = group.admit()
            self.admitted += rows
            return rows
        return []

    @torch.inference_mode()
    def _generate(self, suspend: Suspend) -> Sequences:
        # CUDA's current device is set per thread.
        on_cuda = self.device.type == "cuda"
        context: Any = torch.cuda.device(self.device) if on_cuda else nullcontext()
        with context:
            return self.generate(self._rows, suspend)

    def _end_group(self, search: ThreadCoroutine[Sequences]) -> list[Row]:
        rows, self._rows, self._search = self._rows, [], None
        try:
            generated = search.result()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # `generate` also raises errors for its arguments
            return self._retry_halves(rows, self.failure_of(error))
        for row, sequences in zip(rows, generated, strict=True):
            row.feature = None
            if row.failure is None:
                row.finish(self.writer, sequences)
        return rows

    def _retry_halves(self, rows: list[Row], failure: Failure) -> list[Row]:
        """Queue both halves of a failed group; return a single row with its failure."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            rows[0].failure = rows[0].failure or failure
            return rows
        middle = len(rows) // 2
        self._retries.extendleft([rows[middle:], rows[:middle]])
        return []


def row_draws(rows: list[Row], device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which sampled rows are drawn with their own generators."""
    options = [row.options for row in rows]
    if options[0].temperature == 0:
        return nullcontext()
    return RowMultinomial([seeded_generator(row, device) for row in options])


def score_bytes(model: TextGenerator, options: GenerationOptions) -> int:
    """Return the bytes of the scores that a position of a row or beam keeps."""
    return 4 * model.decoder.vocab_size if options.output_scores else 0
