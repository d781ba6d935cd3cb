"""The next token of every row, each by its own options: neighbours never change a result.

Plain greedy rows cost one maximum over the logits. The rows that want more form a group, worked on
as one batch with a line of settings for each. Semantics and order are those of transformers'
logits processors; a seeded row draws what `generate` draws after `torch.manual_seed(seed)`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engine.request import GenerationOptions

#: Stands for 'no token': the row's logits were not finite.
NOT_FINITE_TOKEN = -1


class RowSampling:
    """What one row needs beyond plain greedy decoding."""

    def __init__(
        self,
        options: GenerationOptions,
        prompt: Sequence[int],
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self.options = options
        self.seen: Tensor | None = None
        if options.repetition_penalty != 1.0:
            # As in `generate`, image tokens and prompt count as said before.
            self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            known = [token for token in set(prompt) if token < vocab_size]
            self.seen[torch.tensor(known, dtype=torch.long, device=device)] = True
        self.ngrams = Ngrams(options.no_repeat_ngram_size, prompt)
        self.generator: torch.Generator | None = None
        if options.temperature > 0:
            self.generator = torch.Generator(device)
            if options.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(options.seed)


class Ngrams:
    """Which tokens would repeat an n-gram of the row. Kept up token by token, on the host."""

    def __init__(self, size: int, tokens: Sequence[int]) -> None:
        self.size = size
        self.followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        self.tail: tuple[int, ...] = ()
        if size:
            for token in tokens:
                self.add(token)

    def add(self, token: int) -> None:
        if not self.size:
            return
        if len(self.tail) == self.size - 1:
            self.followers[self.tail].add(token)
        self.tail = (*self.tail, token)[1 - self.size :] if self.size > 1 else ()

    def banned(self) -> set[int]:
        return self.followers.get(self.tail, set()) if self.size else set()


@dataclass(slots=True)
class Group:
    """The rows with controls, as one batch: line i of everything belongs to `controls[i]`."""

    controls: list[RowSampling]
    rows: Tensor
    penalty: Tensor | None  # with `seen`, when any row has one
    seen: Tensor | None
    ngrams: list[tuple[int, Ngrams]]
    lottery: SamplingRows | None  # for the lines that sample; the others take the best


class SamplingRows:
    """The lines of a group that sample, by temperature, top-k and top-p."""

    def __init__(self, controls: Sequence[RowSampling], device: torch.device) -> None:
        lines = [line for line, c in enumerate(controls) if c.generator is not None]
        options = [controls[line].options for line in lines]
        self.generators = [controls[line].generator for line in lines]
        self.lines = torch.tensor(lines, device=device)
        self.temperature = torch.tensor([[o.temperature] for o in options], device=device)
        self.top_k = torch.tensor([[o.top_k] for o in options], device=device)
        self.most = max((o.top_k for o in options), default=0)
        # The share to drop, from 64-bit figures: one unit in the last place moves a token.
        self.tail = torch.tensor([[1 - o.top_p] for o in options], device=device)
        self.cuts_tail = any(o.top_p < 1 for o in options)

    def draw(self, scores: Tensor) -> Tensor:
        """One token for each of the lines from (lines, vocabulary)."""
        scores = scores / self.temperature
        if self.most:
            scores = keep_top_k(scores, self.top_k, self.most)
        if self.cuts_tail:
            scores = drop_tail(scores, self.tail)
        noise = torch.empty_like(scores)
        for line, generator in zip(noise, self.generators, strict=True):
            line.exponential_(generator=generator)
        # The race of exponentials that torch.multinomial runs, each row on its own generator.
        return (scores.softmax(dim=-1) / noise).argmax(dim=-1)


class Sampler:
    """Rows are numbered as in the slots; `add` and `reorder` keep both in step."""

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
        self._short: list[int] = []  # tokens that must still come before an end token
        self._group: Group | None = None
        self._stale = False

    def add(self, options: GenerationOptions, prompt: Sequence[int]) -> None:
        """A new last row, whose tokens so far are `prompt`."""
        plain = (
            options.temperature == 0
            and options.repetition_penalty == 1.0
            and options.no_repeat_ngram_size == 0
        )
        controls = None if plain else RowSampling(options, prompt, self.vocab_size, self.device)
        self._rows.append(controls)
        self._short.append(options.min_new_tokens)
        self._stale = self._stale or not plain

    def reorder(self, order: Sequence[int]) -> None:
        """Row i is from now on what was row `order[i]`; rows not named are gone."""
        self._stale = self._stale or self._group is not None
        self._rows = [self._rows[row] for row in order]
        self._short = [self._short[row] for row in order]

    def sample(self, logits: Tensor) -> Tensor:
        """Choose a token for each row from (rows, vocabulary); BROKEN where they are not finite."""
        if self._stale:
            self._group, self._stale = self._gather(), False
        if self.suppressed.numel():
            logits = logits.index_fill(1, self.suppressed, -torch.inf)
        short = [row for row, missing in enumerate(self._short) if missing > 0]
        if short and self.eos.numel():
            logits = self._forbid_end(logits, short)
        best, tokens = logits.max(dim=-1)
        if self._group is not None:
            rows = self._group.rows
            tokens[rows] = self._choose(logits.index_select(0, rows).float(), self._group)
        return tokens.masked_fill_(~best.isfinite(), NOT_FINITE_TOKEN)

    def observe(self, tokens: Sequence[int]) -> None:
        """Tell, on the host, what `sample` chose."""
        self._short = [missing - 1 for missing in self._short]
        if self._group is None:
            return
        for controls, token in zip(self._rows, tokens, strict=True):
            if controls is not None:
                controls.ngrams.add(token)

    def _forbid_end(self, logits: Tensor, short: list[int]) -> Tensor:
        if len(short) == len(logits):
            return logits.index_fill(1, self.eos, -torch.inf)
        logits, lines = logits.clone(), torch.tensor(short, device=self.device)
        logits[lines[:, None], self.eos] = -torch.inf
        return logits

    def _gather(self) -> Group | None:
        lines = [(row, c) for row, c in enumerate(self._rows) if c is not None]
        if not lines:
            return None
        controls = [c for _, c in lines]
        lottery = SamplingRows(controls, self.device)
        group = Group(
            controls=controls,
            rows=torch.tensor([row for row, _ in lines], device=self.device),
            penalty=None,
            seen=None,
            ngrams=[(i, c.ngrams) for i, c in enumerate(controls) if c.ngrams.size],
            lottery=lottery if len(lottery.lines) else None,
        )
        if any(c.seen is not None for c in controls):
            penalties = [[c.options.repetition_penalty] for c in controls]
            group.penalty = torch.tensor(penalties, device=self.device)
            group.seen = self._stack_seen(controls)
        return group

    def _stack_seen(self, controls: list[RowSampling]) -> Tensor:
        nothing = torch.zeros(self.vocab_size, dtype=torch.bool, device=self.device)
        seen = torch.stack([c.seen if c.seen is not None else nothing for c in controls])
        for line, c in enumerate(controls):
            if c.seen is not None:
                c.seen = seen[line]  # a view: what is marked below outlives this group
        return seen

    def _choose(self, scores: Tensor, group: Group) -> Tensor:
        scores = self._restrict(scores, group)
        tokens = scores.argmax(dim=-1)
        if group.lottery is not None:
            lines = group.lottery.lines
            tokens[lines] = group.lottery.draw(scores.index_select(0, lines))
        if group.seen is not None:
            group.seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _restrict(self, scores: Tensor, group: Group) -> Tensor:
        """Repetition penalty and n-grams: what also counts for greedy rows."""
        if group.penalty is not None and group.seen is not None:
            penalised = torch.where(scores < 0, scores * group.penalty, scores / group.penalty)
            scores = torch.where(group.seen, penalised, scores)
        banned = [(line, token) for line, n in group.ngrams for token in n.banned()]
        if banned:
            lines, tokens = torch.tensor(banned, device=self.device).T
            scores[lines, tokens] = -torch.inf
        return scores


def keep_top_k(scores: Tensor, top_k: Tensor, most: int) -> Tensor:
    """Drop what lies below the k-th best; (rows, 1) of k, 0 for all; `most` is the largest k."""
    best = scores.topk(min(most, scores.shape[-1])).values
    last = top_k.clamp(1, best.shape[-1]) - 1
    return scores.masked_fill((scores < best.gather(1, last)) & (top_k > 0), -torch.inf)


def drop_tail(scores: Tensor, tail: Tensor) -> Tensor:
    """Drop the worst tokens that hold at most `tail` of the probability; (rows, 1), 0 for none."""
    ascending, order = scores.sort(dim=-1)
    dropped = (ascending.softmax(dim=-1).cumsum(dim=-1) <= tail) & (tail > 0)
    dropped[:, -1] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
