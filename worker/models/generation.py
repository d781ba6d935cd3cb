"""Arguments and results of transformers' own `generate`, shared by all decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from worker.engine.model import StopTexts, TokenSequence
from worker.engine.request import GenerationOptions
from worker.models.diverse_beams import DiverseBeamSearch


class _StopOnRequest(StoppingCriteria):
    """A criterion that ends all rows when `stop` returns True."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.stop(), device=input_ids.device)


class _StopAtTexts(StoppingCriteria):
    """A criterion that ends a beam whose last token completes a stop text."""

    def __init__(self, texts: StopTexts) -> None:
        self.texts = texts

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        ends = [self.texts.completed_by(row) for row in input_ids.tolist()]
        return torch.tensor(ends, device=input_ids.device)


def generate_arguments(
    options: GenerationOptions,
    stop: Callable[[], bool],
    stop_texts: StopTexts | None,
    suppressed_ids: Sequence[int],
) -> dict[str, Any]:
    """Return the options of a group of rows as arguments of `generate`.

    `suppressed_ids` are the tokens that the checkpoint never generates.
    """
    criteria = StoppingCriteriaList([_StopOnRequest(stop)])
    if stop_texts is not None:
        criteria.append(_StopAtTexts(stop_texts))
    suppressed = sorted({*suppressed_ids, *options.suppress_tokens})
    search: dict[str, Any] = {"do_sample": options.temperature > 0}
    if search["do_sample"]:
        search |= {
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
            "min_p": options.min_p or None,
            "typical_p": options.typical_p,
            "epsilon_cutoff": options.epsilon_cutoff,
            "eta_cutoff": options.eta_cutoff,
        }
    if options.num_beam_groups > 1:
        search["custom_generate"] = DiverseBeamSearch(options, stop, stop_texts)
    return search | {
        "max_new_tokens": options.max_new_tokens,
        "min_new_tokens": options.min_new_tokens or None,
        "num_beams": options.num_beams,
        "length_penalty": options.length_penalty,
        "early_stopping": options.early_stopping,
        "repetition_penalty": options.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size,
        "bad_words_ids": [list(word) for word in options.bad_word_ids] or None,
        "suppress_tokens": suppressed or None,
        "num_return_sequences": options.num_return_sequences,
        "output_scores": options.output_scores,
        "return_dict_in_generate": True,
        "stopping_criteria": criteria,
    }


def beam_sequences(
    network: Any, output: Any, prompt_tokens: int, options: GenerationOptions
) -> list[list[TokenSequence]]:
    """Return the sequences of each row of a beam search, the best first."""
    # Shorter sequences are padded; these indices are not.
    lengths = (output.beam_indices >= 0).sum(1).tolist()
    tokens = output.sequences[:, prompt_tokens:].tolist()
    logprobs: list[list[float]] = [[] for _ in tokens]
    if options.output_scores:
        logprobs = network.compute_transition_scores(
            output.sequences, output.scores, output.beam_indices, normalize_logits=True
        ).tolist()
    sequences = [
        TokenSequence(row[:length], row_logprobs[:length])
        for row, row_logprobs, length in zip(tokens, logprobs, lengths, strict=True)
    ]
    count = options.num_return_sequences
    return [sequences[first : first + count] for first in range(0, len(sequences), count)]


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
