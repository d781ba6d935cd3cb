"""Processors of `generate`'s scores that treat each row of a padded group as a single row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from worker.engine.request import GenerationOptions


class FiniteScores(LogitsProcessor):
    """A record of the rows whose scores were not finite; each row has `lines` in a call."""

    def __init__(self, rows: int, lines: int, device: torch.device) -> None:
        self.lines = lines
        self.failed = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        """Return the scores, with zeros instead of NaN."""
        # A token that is masked has a score of minus infinity.
        broken = scores.isnan().any(-1) | (scores == torch.inf).any(-1)
        self.failed |= broken.view(-1, self.lines).any(-1)
        return scores.masked_fill(broken[:, None], 0)


class UnpaddedPenalties(LogitsProcessor):
    """The penalties of rows that begin with `padding` tokens, which do not count as repeated."""

    def __init__(self, options: GenerationOptions, padding: Sequence[int]) -> None:
        self.padding = [count for count in padding for _ in range(options.group_beams)]
        self.penalties: list[Any] = []
        if options.repetition_penalty != 1.0:
            self.penalties.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
        if options.no_repeat_ngram_size:
            self.penalties.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Any:
        """Apply each penalty to the tokens of each row without its padding."""
        rows = []
        for number, count in enumerate(self.padding):
            row = scores[number : number + 1]
            for penalty in self.penalties:
                row = penalty(input_ids[number : number + 1, count:], row)
            rows.append(row)
        return torch.cat(rows)
