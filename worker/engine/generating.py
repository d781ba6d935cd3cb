"""The grouped lane: models that run by transformers' own `generate`, images included.

Rows with equal options form a group, padded to the longest prompt. A model whose padded rows differ
from single rows (the self-check compares them) runs row by row.
"""

from __future__ import annotations

from collections.abc import Hashable

from worker.engine.device import check_free
from worker.engine.errors import InputRefused
from worker.engine.groups import GroupLane, Sequences, row_draws, score_bytes
from worker.engine.halving import Failure
from worker.engine.model import GroupGenerator, GroupInputs
from worker.engine.request import GenerationOptions, Request
from worker.engine.row import EVICTED, NOT_FINITE, Row
from worker.engine.row_options import resolve_options
from worker.engine.thread_coroutine import Suspend


class GeneratingLane(GroupLane):
    """The lane of a GroupGenerator's tasks."""

    def __init__(self, model: GroupGenerator, max_rows: int) -> None:
        super().__init__(model, max_rows)
        self.model = model
        #: Maximum rows of a group: 1 runs row by row; set by warm-up and self-check.
        self.group_rows = max_rows

    def prepare(self, row: Row) -> Failure | None:
        """Check a row's text and image; return a Failure if the row cannot run."""
        if row.request.pixels is None:
            return EVICTED  # no features are cached
        try:
            self.model.check(row.request)
            check_supported(row.request)
            row.options = resolve_options(row.request.options, row.prompt, self.model)
        except ValueError as error:
            return Failure("option_invalid", str(error))
        if row.options.stop:
            row.stop = self.model.token_texts.stop_texts(row.options.stop)
        return None

    def group_key(self, row: Row) -> Hashable:
        # Some models flatten the images of a batch: their rows have no dimension of their own.
        return row.request.adapter

    def group_limit(self, options: GenerationOptions) -> int:
        # On the device, every beam is a row.
        return max(1, min(self.group_rows, self.max_rows // options.num_beams))

    def generate(self, rows: list[Row], suspend: Suspend) -> Sequences:
        options = rows[0].options
        inputs = self.model.collate([row.request for row in rows])
        for row, prompt, length in zip(rows, inputs.prompts, inputs.lengths, strict=True):
            row.prompt = prompt
            row.failure = row.failure or self._length_failure(length, options.max_new_tokens)
        running = [row for row in rows if row.failure is None]
        if not running:
            return [[] for _ in rows]
        if len(running) < len(rows):
            inputs = self.model.collate([row.request for row in running])
        self._check_memory(inputs, options)
        adapter = self.model.adapters.select([rows[0].request.adapter])
        with adapter, row_draws(running, self.device):
            generated = self.model.generate(inputs, options, suspend, running[0].stop)
        by_row = dict(zip(running, generated, strict=True))
        for row, sequences in by_row.items():
            row.failure = row.failure or (None if sequences else NOT_FINITE)
        return [by_row.get(row, []) for row in rows]

    def _check_memory(self, inputs: GroupInputs, options: GenerationOptions) -> None:
        width = max(inputs.lengths) + options.max_new_tokens
        positions = len(inputs.prompts) * options.num_beams * width
        size = positions * (self.model.token_bytes + score_bytes(self.model, options))
        check_free(size, self.device, "the KV cache of a group")

    def _length_failure(self, needed: int, new: int) -> Failure | None:
        message = self.model.limit_error(needed, new)
        return None if message is None else Failure("prompt_too_long", message)

    def failure_of(self, error: Exception) -> Failure:
        if isinstance(error, InputRefused):
            return Failure("image_invalid", str(error))
        return super().failure_of(error)


def check_supported(request: Request) -> None:
    """Raise ValueError for an option that only models decoded in flight have."""
    options = request.options
    for name, value, remedy in (
        ("max_length", options.max_length, "use max_new_tokens"),
        ("min_length", options.min_length, "use min_new_tokens"),
        ("answers", request.candidate, "ask the question without them"),
    ):
        if value:
            raise ValueError(f"{name}: this model does not offer it; {remedy}.")
