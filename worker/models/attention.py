"""Attention over states in the order the slots keep them: (rows, length, heads, dim)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

#: Numbers that the keys of a step may have, so that a product of as many stays near the caches.
MAX_SMALL_KEYS: Final = 2 * 2**20


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
    if queries.shape[1] == 1 and _is_small(keys):
        return _attend_once(queries, keys, values, mask, scale)
    seen = torch.nn.functional.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
    )
    return seen.transpose(1, 2).flatten(2)


def _is_small(keys: Tensor) -> bool:
    return keys.numel() <= MAX_SMALL_KEYS and keys.device.type == "cpu" and keys.dtype == torch.float32


def _attend_once(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """One query for each row, on a CPU: keys and values are read once, in the order they lie in.

    A matrix product for each row and head, which is what torch makes of it, takes up to twice as
    long: they are tiny, and most of their time is waiting for memory.
    """
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    scores = (queries * scale * keys).sum(-1)  # (rows, length, heads)
    if mask is not None:
        scores += mask[:, :, 0].transpose(1, 2)
    weights = scores.softmax(1)
    return (weights[..., None] * values).sum(1, keepdim=True).flatten(2)
