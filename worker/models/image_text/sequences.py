"""The sequences of rows that `generate` has decoded greedily or by sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.engine.model import Prompt, StopTexts, TokenSequence


@dataclass(frozen=True, slots=True)
class RowEnds:
    """The end tokens and the stop texts of a group."""

    eos_ids: tuple[int, ...]
    stop_texts: StopTexts | None

    def length(self, tokens: list[int], prompt: Prompt) -> int:
        """Return the number of new tokens up to the first end; padding comes after it."""
        for count, token in enumerate(tokens, start=1):
            if token in self.eos_ids:
                return count
            stop = self.stop_texts
            if stop is not None and stop.completed_by(tokens[:count], prompt.start):
                return count
        return len(tokens)


def row_sequences(
    network: Any, output: Any, prompt_tokens: int, prompts: Sequence[Prompt], ends: RowEnds
) -> list[list[TokenSequence]]:
    """Return the one sequence of each row."""
    tokens = output.sequences[:, prompt_tokens:].tolist()
    logprobs: list[list[float]] = [[] for _ in tokens]
    if output.scores is not None:
        logprobs = network.compute_transition_scores(
            output.sequences, output.scores, normalize_logits=True
        ).tolist()
    lengths = [ends.length(row, prompt) for row, prompt in zip(tokens, prompts, strict=True)]
    return [
        [TokenSequence(row[:length], row_logprobs[:length])]
        for row, row_logprobs, length in zip(tokens, logprobs, lengths, strict=True)
    ]
