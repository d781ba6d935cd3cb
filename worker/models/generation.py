"""What every family does alike where transformers' own `generate` is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from worker.engine.request import GenerationOptions


class _LeaveOff(StoppingCriteria):
    """Ends every row at once when the engine says so."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.stop(), device=input_ids.device)


def generate_arguments(options: GenerationOptions, stop: Callable[[], bool]) -> dict[str, Any]:
    """The options of one group of rows, in the words of `generate`."""
    return {
        "max_new_tokens": options.max_new_tokens,
        "min_new_tokens": options.min_new_tokens or None,
        "num_beams": options.num_beams,
        "length_penalty": options.length_penalty,
        "early_stopping": options.early_stopping,
        "repetition_penalty": options.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size,
        "do_sample": False,
        "stopping_criteria": StoppingCriteriaList([_LeaveOff(stop)]),
    }


def new_tokens(rows: Tensor, eos_ids: Sequence[int]) -> list[list[int]]:
    """Cut the padding behind the end token of each row of (rows, new)."""
    cut = []
    for row in rows.tolist():
        ends = [place for place, token in enumerate(row) if token in eos_ids]
        cut.append(row[: ends[0] + 1] if ends else row)
    return cut


def token_ids(*candidates: int | Sequence[int] | None) -> tuple[int, ...]:
    """The first candidate that is set, as a tuple: configurations write one id or a list."""
    for ids in candidates:
        if ids is not None:
            return (ids,) if isinstance(ids, int) else tuple(ids)
    return ()
