"""Attention over states in the order the slots keep them: (rows, length, heads, dim)."""

from __future__ import annotations

import torch
from torch import Tensor


def split_heads(states: Tensor, dim: int) -> Tensor:
    """(rows, length, heads * dim) to (rows, length, heads, dim)."""
    return states.view(*states.shape[:-1], -1, dim)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """(rows, new, heads, dim) look at (rows, length, heads, dim); gives (rows, new, heads * dim).

    `mask` is added to the scores; `scale` is 1 / sqrt(dim) unless given.
    """
    seen = torch.nn.functional.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
    )
    return seen.transpose(1, 2).flatten(2)
