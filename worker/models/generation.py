"""Arguments and results of transformers' own `generate`, shared by all decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from worker.engine.request import GenerationOptions


class _StopOnRequest(StoppingCriteria):
    """A criterion that ends all rows when `stop` returns True."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.stop(), device=input_ids.device)


def generate_arguments(options: GenerationOptions, stop: Callable[[], bool]) -> dict[str, Any]:
    """Return the options of a group of rows as arguments of `generate`."""
    sampling: dict[str, Any] = {"do_sample": options.temperature > 0}
    if sampling["do_sample"]:
        sampling |= {
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
            "min_p": options.min_p or None,
            "typical_p": options.typical_p,
            "epsilon_cutoff": options.epsilon_cutoff,
            "eta_cutoff": options.eta_cutoff,
        }
    return sampling | {
        "max_new_tokens": options.max_new_tokens,
        "min_new_tokens": options.min_new_tokens or None,
        "num_beams": options.num_beams,
        "length_penalty": options.length_penalty,
        "early_stopping": options.early_stopping,
        "repetition_penalty": options.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size,
        "stopping_criteria": StoppingCriteriaList([_StopOnRequest(stop)]),
    }


def new_tokens(rows: Tensor, eos_ids: Sequence[int]) -> list[list[int]]:
    """Return each row of (rows, new) without the padding after its end token."""
    trimmed = []
    for row in rows.tolist():
        ends = [position for position, token in enumerate(row) if token in eos_ids]
        trimmed.append(row[: ends[0] + 1] if ends else row)
    return trimmed


def decode_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return token ids as text, without special tokens and surrounding spaces.

    The tokenizer's own configuration decides about spaces before punctuation, as for the
    processor of transformers.
    """
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text.strip()


def token_ids(*candidates: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the first candidate that is set, as a tuple: a configuration has an id or a list."""
    for ids in candidates:
        if ids is not None:
            return (ids,) if isinstance(ids, int) else tuple(ids)
    return ()
