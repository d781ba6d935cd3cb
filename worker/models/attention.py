"""Scaled dot-product attention over states in the slots' layout: (rows, length, heads, dim)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

#: Maximum elements of a decode step's keys whose product still fits the CPU caches.
MAX_SMALL_KEYS: Final = 2 * 2**20


def split_heads(states: Tensor, dim: int) -> Tensor:
    """Reshape (rows, length, heads * dim) to (rows, length, heads, dim)."""
    return states.view(*states.shape[:-1], -1, dim)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attend from (rows, new, heads, dim) to (rows, length, heads, dim).

    Returns (rows, new, heads * dim). `mask` is added to the scores; `scale` defaults to
    1 / sqrt(dim).
    """
    if queries.shape[1] == 1 and _is_small(keys):
        return _attend_single_query(queries, keys, values, mask, scale)
    context = torch.nn.functional.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        scale=scale,
    )
    return context.transpose(1, 2).flatten(2)


def _is_small(keys: Tensor) -> bool:
    return (
        keys.numel() <= MAX_SMALL_KEYS and keys.device.type == "cpu" and keys.dtype == torch.float32
    )


def _attend_single_query(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Attend with one query for each row on a CPU: read keys and values once, in memory order.

    torch's matrix product for each row and head takes up to twice as long: the products are tiny
    and spend most of their time waiting for memory.
    """
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    scores = (queries * scale * keys).sum(-1)  # (rows, length, heads)
    if mask is not None:
        scores += mask[:, :, 0].transpose(1, 2)
    weights = scores.softmax(1)
    return (weights[..., None] * values).sum(1, keepdim=True).flatten(2)
