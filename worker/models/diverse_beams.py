"""Diverse beam search, a decoding method of transformers' `generate`.

Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424. transformers 5 has moved its own method
into code that it downloads; this one gives the answers of transformers 4.56, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.generation.utils import ALL_CACHE_NAMES

from worker.engine.model import StopTexts
from worker.engine.request import GenerationOptions
from worker.models.beam_groups import Beam, BeamGroup, best_texts


@dataclass(frozen=True, slots=True)
class SearchOutput:
    """The padded sequences of all rows, as the output of transformers' own beam search."""

    sequences: Tensor
    #: The scores of all tokens in each step: (lines, vocabulary).
    scores: tuple[Tensor, ...]
    #: The line from which each token of a sequence was chosen; -1 is padding.
    beam_indices: Tensor


class DiverseBeamSearch:
    """A callable for `generate(custom_generate=…)`.

    The groups of a row choose their tokens in order, and each avoids the tokens of the groups
    before it. `stop` is called once for each token; True ends the search.
    """

    def __init__(
        self, options: GenerationOptions, stop: Callable[[], bool], stop_texts: StopTexts | None
    ) -> None:
        self.options, self.stop, self.stop_texts = options, stop, stop_texts

    def __call__(
        self,
        network: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> SearchOutput:
        """Return the sequences, and the scores and lines from which their tokens were chosen."""
        del stopping_criteria  # instead: `stop`, `stop_texts`, and the end tokens
        choice = _Choice(
            self.options, input_ids, logits_processor, generation_config, self.stop_texts
        )
        outputs = network._prefill(input_ids, generation_config, model_kwargs)
        for length in range(1, self.options.max_new_tokens + 1):
            model_kwargs = network._update_model_kwargs_for_generation(
                outputs, model_kwargs, is_encoder_decoder=network.config.is_encoder_decoder
            )
            logits = outputs.logits[:, -1].to(torch.float32)
            del outputs  # large after a prefill
            lines, tokens = choice.step(input_ids, logits.log_softmax(-1))
            input_ids = torch.cat([input_ids[lines], tokens[:, None]], 1)
            if self.stop() or choice.is_done or length == self.options.max_new_tokens:
                break
            _reorder_cache(network, model_kwargs, lines)
            inputs = network.prepare_inputs_for_generation(
                input_ids,
                next_sequence_length=1 if model_kwargs["use_cache"] else None,
                **model_kwargs,
            )
            outputs = network(**inputs, return_dict=True)  # noqa: F841
        return choice.output()


class _Choice:
    """The choice of a token for every beam; a line of a tensor is a beam, row after row."""

    def __init__(
        self,
        options: GenerationOptions,
        prompts: Tensor,
        processors: Any,
        config: Any,
        stop_texts: StopTexts | None,
    ) -> None:
        self.options, self.processors, self.stop_texts = options, processors, stop_texts
        self.prompts: list[list[int]] = prompts[:: options.num_beams].tolist()
        self.ends = set(_ids(config._eos_token_tensor))
        self.pad = (*_ids(config._pad_token_tensor), 0)[0]
        #: The groups of each row.
        self.rows = [
            [
                BeamGroup(options, partial(self._is_complete, prompt))
                for _ in range(options.num_beam_groups)
            ]
            for prompt in self.prompts
        ]
        lines = torch.arange(len(prompts), device=prompts.device)
        #: The lines of each group: (rows, groups, beams of a group).
        self.lines = lines.view(len(self.rows), options.num_beam_groups, -1)
        #: The scores of all tokens in each step, with `output_scores`.
        self.scores: list[Tensor] = []

    @property
    def is_done(self) -> bool:
        return all(group.is_done for groups in self.rows for group in groups)

    def step(self, input_ids: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the line that each beam continues, and its next token."""
        lines, tokens = torch.empty_like(self.lines), torch.empty_like(self.lines)
        processed = torch.empty_like(log_probs) if self.options.output_scores else None
        for number in range(self.options.num_beam_groups):
            own = self.lines[:, number].flatten()
            # Before other penalties, as in transformers: they multiply this one.
            scores = self._diverse(log_probs[own], tokens[:, :number].flatten(1))
            scores = self.processors(input_ids[own], scores)
            if processed is not None:
                processed[own] = scores
            chosen = lines.new_tensor(self._advance(number, scores))
            lines[:, number], tokens[:, number] = chosen.unbind(-1)
        if processed is not None:
            self.scores.append(processed)
        return lines.flatten(), tokens.flatten()

    def _diverse(self, scores: Tensor, taken: Tensor) -> Tensor:
        """Lower the scores (lines, vocabulary) of the tokens (rows, …) of earlier groups."""
        counts = scores.new_zeros(len(taken), scores.shape[1])
        counts.scatter_add_(1, taken, torch.ones_like(taken, dtype=scores.dtype))
        by_row = scores.view(len(taken), -1, scores.shape[1])
        return (by_row - self.options.diversity_penalty * counts[:, None]).view_as(scores)

    def _advance(self, number: int, scores: Tensor) -> list[list[tuple[int, int]]]:
        """Advance a group of each row; return the lines and tokens of its beams."""
        groups = [row[number] for row in self.rows]
        before = [[beam.score for beam in group.beams] for group in groups]
        totals = scores.view(*self.lines[:, 0].shape, -1) + scores.new_tensor(before)[..., None]
        count = max(2, 1 + len(self.ends)) * self.lines.shape[2]
        best = totals.flatten(1).topk(count)
        lines = self.lines[:, number].tolist()
        ranked = zip(groups, lines, best.values.tolist(), best.indices.tolist(), strict=True)
        chosen = []
        for group, own, values, choices in ranked:
            if group.is_done:
                # Padding counts as a token for later groups, as in transformers.
                chosen.append([(line, self.pad) for line in own])
                continue
            group.advance(_continuations(group.beams, own, values, choices, scores.shape[1]))
            chosen.append([(beam.lines[-1], beam.tokens[-1]) for beam in group.beams])
        return chosen

    def _is_complete(self, prompt: list[int], beam: Beam) -> bool:
        if beam.tokens[-1] in self.ends:
            return True
        texts = self.stop_texts
        return texts is not None and texts.completed_by([*prompt, *beam.tokens])

    def output(self) -> SearchOutput:
        """Return the best texts of all rows, padded."""
        count = self.options.num_return_sequences
        texts = [
            (prompt, beam)
            for prompt, groups in zip(self.prompts, self.rows, strict=True)
            for beam in best_texts(groups, count)
        ]
        width = max(len(beam.tokens) for _, beam in texts)
        rest = [width - len(beam.tokens) for _, beam in texts]
        padded = zip(texts, rest, strict=True)
        return SearchOutput(
            sequences=self.lines.new_tensor(
                [[*prompt, *beam.tokens, *[self.pad] * more] for (prompt, beam), more in padded]
            ),
            scores=tuple(self.scores),
            beam_indices=self.lines.new_tensor(
                [[*beam.lines, *[-1] * more] for (_, beam), more in zip(texts, rest, strict=True)]
            ),
        )


def _continuations(
    beams: Sequence[Beam],
    lines: Sequence[int],
    scores: Sequence[float],
    choices: Sequence[int],
    vocab: int,
) -> Iterator[Beam]:
    """Yield the beams of the best indices of (beams, vocabulary)."""
    for score, choice in zip(scores, choices, strict=True):
        number, token = divmod(choice, vocab)
        yield beams[number].extended(score, token, lines[number])


def _ids(tensor: Tensor | None) -> list[int]:
    return [] if tensor is None else tensor.flatten().tolist()


def _reorder_cache(network: Any, model_kwargs: dict[str, Any], lines: Tensor) -> None:
    """Let each line of the KV cache be that of the beam which it continues."""
    name = next((name for name in ALL_CACHE_NAMES if name in model_kwargs), None)
    if name is None:
        return  # the model computes the whole text in each step
    if hasattr(network, "_reorder_cache"):
        model_kwargs[name] = network._reorder_cache(model_kwargs[name], lines)
    else:
        model_kwargs[name].reorder_cache(lines)
