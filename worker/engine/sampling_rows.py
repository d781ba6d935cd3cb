"""The distribution of rows that sample, and their draws, as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worker.engine.cutoffs import cutoffs

if TYPE_CHECKING:
    from worker.engine.sampler import RowSampling


class SamplingRows:
    """The rows of a group that sample, by temperature, top-k, top-p and rarer cutoffs."""

    def __init__(self, states: Sequence[RowSampling], device: torch.device) -> None:
        indices = [i for i, state in enumerate(states) if state.generator is not None]
        options = [states[i].options for i in indices]
        self.generators = [states[i].generator for i in indices]
        self.indices = torch.tensor(indices, device=device)
        self.temperature = torch.tensor([[o.temperature] for o in options], device=device)
        self.top_k = torch.tensor([[o.top_k] for o in options], device=device)
        self.max_top_k = max((o.top_k for o in options), default=0)
        # 1 - top_p in 64 bits: a difference in the last bit would change tokens.
        self.tail = torch.tensor([[1 - o.top_p] for o in options], device=device)
        self.uses_top_p = any(o.top_p < 1 for o in options)
        #: Indices of the rows with rarer cutoffs, and these.
        self.cutoffs = [
            (i, warpers) for i, o in enumerate(options) if (warpers := cutoffs(o, device))
        ]

    def warp(self, scores: Tensor) -> Tensor:
        """Apply temperature and cutoffs to scores (rows, vocabulary)."""
        scores = scores / self.temperature
        if self.max_top_k:
            scores = apply_top_k(scores, self.top_k, self.max_top_k)
        if self.uses_top_p:
            scores = apply_top_p(scores, self.tail)
        for row, warpers in self.cutoffs:
            scores[row : row + 1] = warpers(None, scores[row : row + 1])
        return scores

    def draw(self, scores: Tensor) -> Tensor:
        """Sample a token for each row of warped scores."""
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        # The exponential race of torch.multinomial, with a generator for each row.
        return (scores.softmax(dim=-1) / noise).argmax(dim=-1)


def apply_top_k(scores: Tensor, top_k: Tensor, max_top_k: int) -> Tensor:
    """Mask tokens below each row's k-th best; `top_k` is (rows, 1), 0 masks none."""
    best = scores.topk(min(max_top_k, scores.shape[-1])).values
    last = top_k.clamp(1, best.shape[-1]) - 1
    return scores.masked_fill((scores < best.gather(1, last)) & (top_k > 0), -torch.inf)


def apply_top_p(scores: Tensor, tail: Tensor) -> Tensor:
    """Mask the worst tokens with a joint probability of at most `tail` (rows, 1); 0 masks none."""
    ascending, order = scores.sort(dim=-1)
    masked = (ascending.softmax(dim=-1).cumsum(dim=-1) <= tail) & (tail > 0)
    masked[:, -1] = False
    return scores.masked_fill(masked.scatter(1, order, masked), -torch.inf)
