"""Sampling of each row's next token by its own options, independently of the other rows.

Plain greedy rows cost one maximum over the logits. The other rows form a group, which is processed
as one batch with its settings in tensors. Semantics and order are those of transformers' logits
processors; a seeded row draws the same tokens as `generate` after `torch.manual_seed(seed)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.banned_words import BannedWords, banned_tokens
from worker.engine.multinomial import seeded_generator
from worker.engine.ngrams import Ngrams
from worker.engine.request import GenerationOptions
from worker.engine.sampling_rows import SamplingRows

#: Value instead of a token: the row's logits were not finite.
NOT_FINITE_TOKEN = -1


class RowSampling:
    """The sampling state of a row that is not decoded by plain greedy search."""

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Sequence[int],
        vocab_size: int,
        device: torch.device,
        fixed: Sequence[int] = (),
    ) -> None:
        self.options = options
        #: The row's next tokens, if they are not sampled.
        self.fixed = iter(fixed) if fixed else None
        self.seen: Tensor | None = None
        if options.repetition_penalty != 1.0:
            # As in `generate`, image tokens and prompt count as generated.
            self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            tokens = [token for token in set(prompt) if token < vocab_size]
            self.seen[torch.tensor(tokens, dtype=torch.long, device=device)] = True
        #: Tokens that are never chosen.
        self.banned = [t for t in banned_tokens(options) if t < vocab_size]
        #: Trackers of the tokens that may not be next.
        self.bans: list[Ngrams | BannedWords] = []
        if options.no_repeat_ngram_size:
            self.bans.append(Ngrams(options.no_repeat_ngram_size, prompt))
        if any(len(word) > 1 for word in options.bad_word_ids):
            self.bans.append(BannedWords(options.bad_word_ids, prompt))
        self.generator: torch.Generator | None = None
        if options.temperature > 0:
            self.generator = seeded_generator(options, device)


@dataclass(slots=True)
class SamplingGroup:
    """The rows with a sampling state, as one batch; index i belongs to `states[i]`."""

    states: list[RowSampling]
    rows: Tensor
    penalty: Tensor | None  # repetition penalties, with `seen`, if any row has one
    seen: Tensor | None
    banned: Tensor | None  # (2, n): index and token
    bans: list[tuple[int, Ngrams | BannedWords]]
    fixed: list[int]  # indices of the rows whose tokens are fixed
    scored: Tensor | None  # indices of the rows whose tokens are scored
    sampling: SamplingRows | None  # the rows that sample; the others take the best token


class Sampler:
    """The sampler of all active rows, in the order of their slots, which `reorder` follows."""

    def __init__(
        self,
        vocab_size: int,
        eos_ids: Sequence[int],
        device: torch.device,
        suppressed_ids: Sequence[int] = (),
    ) -> None:
        self.vocab_size, self.device = vocab_size, device
        self.eos = torch.tensor(list(eos_ids), dtype=torch.long, device=device)
        self.suppressed = torch.tensor(list(suppressed_ids), dtype=torch.long, device=device)
        self._rows: list[RowSampling | None] = []
        self._min_remaining: list[int] = []  # tokens that must precede an end token
        self._group: SamplingGroup | None = None
        self._stale = False
        #: Rows with `output_scores`, and the log-probability of their newest token.
        self._scored: tuple[list[int], Tensor] | None = None

    def add(
        self, options: GenerationOptions, prompt: Sequence[int], fixed: Sequence[int] = ()
    ) -> None:
        """Append a row whose tokens so far are `prompt`; `fixed` are all tokens that follow."""
        plain = (
            options.temperature == 0
            and options.repetition_penalty == 1.0
            and options.no_repeat_ngram_size == 0
            and not (options.bad_word_ids or options.suppress_tokens or options.output_scores)
        )
        state = None if plain else RowSampling(options, prompt, self.vocab_size, self.device, fixed)
        self._rows.append(state)
        self._min_remaining.append(options.min_new_tokens)
        self._stale = self._stale or not plain

    def reorder(self, order: Sequence[int]) -> None:
        """Move row `order[i]` to row i; drop the rows that `order` omits."""
        self._stale = self._stale or self._group is not None
        self._rows = [self._rows[row] for row in order]
        self._min_remaining = [self._min_remaining[row] for row in order]

    def sample(self, logits: Tensor) -> Tensor:
        """Sample a token for each row of logits; NOT_FINITE_TOKEN if they are not finite."""
        self._scored = None
        if self._stale:
            self._group, self._stale = self._build_group(), False
        if self.suppressed.numel():
            logits = logits.index_fill(1, self.suppressed, -torch.inf)
        too_short = [row for row, remaining in enumerate(self._min_remaining) if remaining > 0]
        if too_short and self.eos.numel():
            logits = self._forbid_eos(logits, too_short)
        best, tokens = logits.max(dim=-1)
        if self._group is not None:
            rows = self._group.rows
            tokens[rows] = self._sample_group(logits.index_select(0, rows).float(), self._group)
        return tokens.masked_fill_(~best.isfinite(), NOT_FINITE_TOKEN)

    def observe(self, tokens: Sequence[int]) -> None:
        """Update the host's state with the tokens that `sample` returned."""
        self._min_remaining = [remaining - 1 for remaining in self._min_remaining]
        if self._group is None:
            return
        for state, token in zip(self._rows, tokens, strict=True):
            if state is not None:
                for ban in state.bans:
                    ban.add(token)

    def logprobs(self) -> list[tuple[int, float]]:
        """Return the rows with `output_scores`, and the log-probability of their newest token.

        It is that of the distribution after all options, as `compute_transition_scores` with
        `normalize_logits` returns it.
        """
        if self._scored is None:
            return []
        rows, values = self._scored
        return [*zip(rows, values.tolist(), strict=True)]

    def _forbid_eos(self, logits: Tensor, rows: list[int]) -> Tensor:
        if len(rows) == len(logits):
            return logits.index_fill(1, self.eos, -torch.inf)
        logits = logits.clone()
        logits[torch.tensor(rows, device=self.device)[:, None], self.eos] = -torch.inf
        return logits

    def _build_group(self) -> SamplingGroup | None:
        pairs = [(row, state) for row, state in enumerate(self._rows) if state is not None]
        if not pairs:
            return None
        states = [state for _, state in pairs]
        sampling = SamplingRows(states, self.device)
        scored = [i for i, state in enumerate(states) if state.options.output_scores]
        group = SamplingGroup(
            states=states,
            rows=torch.tensor([row for row, _ in pairs], device=self.device),
            penalty=None,
            seen=None,
            banned=self._pairs(
                [(i, token) for i, state in enumerate(states) for token in state.banned]
            ),
            bans=[(i, ban) for i, state in enumerate(states) for ban in state.bans],
            fixed=[i for i, state in enumerate(states) if state.fixed is not None],
            scored=torch.tensor(scored, device=self.device) if scored else None,
            sampling=sampling if len(sampling.indices) else None,
        )
        if any(state.seen is not None for state in states):
            penalties = [[state.options.repetition_penalty] for state in states]
            group.penalty = torch.tensor(penalties, device=self.device)
            group.seen = self._stack_seen(states)
        return group

    def _pairs(self, pairs: list[tuple[int, int]]) -> Tensor | None:
        """Return pairs as a tensor (2, n); None if there are none."""
        return torch.tensor(pairs, device=self.device).T if pairs else None

    def _stack_seen(self, states: list[RowSampling]) -> Tensor:
        empty = torch.zeros(self.vocab_size, dtype=torch.bool, device=self.device)
        seen = torch.stack([empty if state.seen is None else state.seen for state in states])
        for i, state in enumerate(states):
            if state.seen is not None:
                state.seen = seen[i]  # a view: updates through the group outlive it
        return seen

    def _sample_group(self, scores: Tensor, group: SamplingGroup) -> Tensor:
        scores = self._apply_penalties(scores, group)
        tokens = scores.argmax(dim=-1)
        if group.sampling is not None:
            indices = group.sampling.indices
            warped = group.sampling.warp(scores.index_select(0, indices))
            tokens[indices] = group.sampling.draw(warped)
            if group.scored is not None:
                scores[indices] = warped
        if group.fixed:
            fixed = [next(group.states[i].fixed or iter(())) for i in group.fixed]
            tokens[group.fixed] = torch.tensor(fixed, device=self.device)
        if group.seen is not None:
            group.seen.scatter_(1, tokens[:, None], True)
        if group.scored is not None:
            logprobs = scores[group.scored].log_softmax(dim=-1)
            chosen = logprobs.gather(1, tokens[group.scored, None])[:, 0]
            self._scored = group.rows[group.scored].tolist(), chosen
        return tokens

    def _apply_penalties(self, scores: Tensor, group: SamplingGroup) -> Tensor:
        """Apply repetition penalty and bans of tokens, which greedy rows may have too."""
        if group.penalty is not None and group.seen is not None:
            penalised = torch.where(scores < 0, scores * group.penalty, scores / group.penalty)
            scores = torch.where(group.seen, penalised, scores)
        following = [(i, token) for i, ban in group.bans for token in ban.banned()]
        for banned in (group.banned, self._pairs(following)):
            if banned is not None:
                scores[banned[0], banned[1]] = -torch.inf
        return scores
