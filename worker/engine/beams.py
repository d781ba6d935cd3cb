"""What only transformers' own `generate` does (beam search), in groups of rows that ask alike.

A group has equal options and prompts of equal length, so nothing is padded and its rows get what
they would get alone. It advances by one token in each step of the engine, beside the rows that are
decoded in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from contextlib import nullcontext

import torch

from worker.engine.decoding import with_prompt
from worker.engine.encoder import Encoder
from worker.engine.halving import Failure, describe
from worker.engine.model import Generator
from worker.engine.row import NOT_FINITE, Row, wrong_image
from worker.engine.scheduler import Scheduler
from worker.engine.stepwise import Report, Stepwise

Tokens = list[list[int]]


class GroupedLane:
    """Rows that `generate` runs, one group at a time."""

    def __init__(self, model: Generator, encoder: Encoder, max_rows: int) -> None:
        self.model, self.encoder, self.max_rows = model, encoder, max_rows
        #: Images that may be encoded for a group that begins.
        self.max_images = max_rows
        self._groups: dict[Hashable, Scheduler[Row]] = {}
        #: Halves of groups that failed, to be run before anything else.
        self._again: deque[list[Row]] = deque()
        self._rows: list[Row] = []
        self._search: Stepwise[Tokens] | None = None

    @property
    def active(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._groups.values())) + sum(map(len, self._again))

    def prepare(self, row: Row) -> Failure | None:
        """What keeps a row from ever being run, or None. Fills in its prompt and its feature."""
        row.feature = self.encoder.cache.get(row.request.image_hash)
        return wrong_image(row.request, row.feature, self.model.image_size) or with_prompt(
            row, self.model
        )

    def add(self, row: Row) -> None:
        options = row.request.options
        parts = (row.prompt.start, row.prompt.source, row.prompt.query)
        key = (options, *(part and len(part) for part in parts))
        if key not in self._groups:
            # Every beam is a row of the device.
            self._groups[key] = Scheduler(max(1, self.max_rows // options.num_beams))
            self._groups[key].max_images = self.max_images
        self._groups[key].add(row)

    def promote(self, row: Row) -> None:
        for group in self._groups.values():
            group.promote(row)

    def withdraw(self, row: Row) -> bool:
        """Take out a row that waits for its group to begin."""
        return any(group.remove(row) for group in self._groups.values())

    def step(self) -> list[Row]:
        """Advance the group by one token, or begin the next one. Returns the rows that ended."""
        ended: list[Row] = []
        if self._search is None:
            ended += self._begin()
        if self._search is not None:
            if all(row.failure is not None for row in self._rows):
                self._search.stop()
            if self._search.step():
                ended += self._end(self._search)
        return ended

    def _begin(self) -> list[Row]:
        """Take the next group and encode its images; returns the rows that could not be."""
        rows = self._again.popleft() if self._again else self._next()
        if not rows:
            return []
        self.encoder.run(rows)
        for row in rows:
            # Beams of such features would be a text, and an empty one.
            if row.feature is not None and not row.feature.isfinite().all():
                row.failure = row.failure or NOT_FINITE
        self._rows = [row for row in rows if row.failure is None]
        if self._rows:
            self._search = Stepwise(self._generate)
        return [row for row in rows if row.failure is not None]

    def _next(self) -> list[Row]:
        """The rows of a group somebody waits for, else of the group that was there first."""
        self._groups = {key: group for key, group in self._groups.items() if len(group)}
        urgent = [group for group in self._groups.values() if group.has_interactive]
        for group in [*urgent, *self._groups.values()]:
            return group.admit()
        return []

    @torch.inference_mode()
    def _generate(self, report: Report) -> Tokens:
        features = torch.stack([row.feature for row in self._rows if row.feature is not None])
        prompts = [row.prompt for row in self._rows]
        device = self.model.device
        # This thread has a current device of its own.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return self.model.generate(features, prompts, self._rows[0].request.options, report)

    def _end(self, search: Stepwise[Tokens]) -> list[Row]:
        rows, self._rows, self._search = self._rows, [], None
        try:
            tokens = search.result()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # `generate` also raises what it thinks of its arguments
            return self._fail(rows, describe(error))
        for row, new in zip(rows, tokens, strict=True):
            row.feature, row.tokens = None, new
            row.text = self.model.text(row.request, row.prompt, new)
        return rows

    def _fail(self, rows: list[Row], failure: Failure) -> list[Row]:
        """Run a group that failed again in halves, down to the row at fault."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            rows[0].failure = rows[0].failure or failure
            return rows
        middle = len(rows) // 2
        self._again.extendleft([rows[middle:], rows[:middle]])
        return []
