"""Beam search by transformers' own `generate`, in groups of rows with equal options.

The prompts of a group have equal lengths, so there is no padding and the batch does not change a
row's result. Its groups run in addition to the rows that are decoded in flight.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch

from worker.engine.decoding import prepare_prompt
from worker.engine.device import check_free
from worker.engine.encoder import Encoder
from worker.engine.groups import GroupLane, Sequences, row_draws, score_bytes
from worker.engine.halving import Failure
from worker.engine.model import Generator
from worker.engine.request import GenerationOptions
from worker.engine.row import NOT_FINITE, Row, check_image
from worker.engine.thread_coroutine import Suspend


class BeamLane(GroupLane):
    """The lane of rows with `num_beams` above 1.

    `token_bytes` is the size of a position's keys and values.
    """

    def __init__(self, model: Generator, encoder: Encoder, max_rows: int, token_bytes: int) -> None:
        super().__init__(model, max_rows)
        self.model, self.encoder = model, encoder
        self.token_bytes = token_bytes

    def prepare(self, row: Row) -> Failure | None:
        """Set a row's prompt and cached feature; return a Failure if the row cannot run."""
        row.feature = self.encoder.cache.get(row.request.image_hash)
        return check_image(row.request, row.feature, self.model.frame) or prepare_prompt(
            row, self.model
        )

    def group_key(self, row: Row) -> Hashable:
        parts = (row.prompt.start, row.prompt.source, row.prompt.query)
        return tuple(part and len(part) for part in parts)

    def group_limit(self, options: GenerationOptions) -> int:
        # On the device, every beam is a row.
        return max(1, self.max_rows // options.num_beams)

    def load(self, rows: list[Row]) -> None:
        self.encoder.run(rows)
        for row in rows:
            # Beam search would return an empty text for features that are not finite.
            if row.feature is not None and not row.feature.isfinite().all():
                row.failure = row.failure or NOT_FINITE

    def generate(self, rows: list[Row], suspend: Suspend) -> Sequences:
        features = torch.stack([row.feature for row in rows if row.feature is not None])
        prompts, options = [row.prompt for row in rows], rows[0].options
        tokens = sum(row_tokens(row) for row in rows) * options.num_beams
        size = tokens * (self.token_bytes + score_bytes(self.model, options))
        check_free(size, self.device, "the tensors of a beam search")
        adapters = self.model.adapters.select([row.request.adapter for row in rows])
        with adapters, row_draws(rows, self.device):
            inputs = self.model.condition(features, prompts)
            return self.model.decoder.generate(inputs, prompts, options, suspend, rows[0].stop)


def row_tokens(row: Row) -> int:
    """Return the positions of a row: its prompt, its answer and its source."""
    prompt, new = row.prompt, row.options.max_new_tokens
    return len(prompt.start) + new + len(prompt.source or ())
