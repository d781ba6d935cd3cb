"""A linear layer in eight bits whose rows never touch each other.

LLM.int8() (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339) multiplies what is large in an
activation in full and the rest in eight bits. bitsandbytes decides that by column, for all rows of
a batch at once: a large value in one row changes how its neighbours are rounded. Here it is decided
for each value by itself, so that a row in company equals the row alone. The products are those of
bitsandbytes.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

#: Activations of this size and more are multiplied in full (the paper's threshold).
LARGE: Final = 6.0
#: The largest code. Symmetric: -128 is not used.
LIMIT: Final = 127.0


class Int8Linear(nn.Module):
    """`weight` (out, in) int8; `scale` (out,) float32, the largest magnitude of each line."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = bias

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type that comes in."""
        rows = states.reshape(-1, states.shape[-1])
        is_large = rows.abs() >= LARGE
        codes, scales = quantize(rows.masked_fill(is_large, 0))
        out: Tensor = torch.ops.bitsandbytes.int8_scaled_mm(
            codes, self.weight, scales, self.scale, bias=self.bias, dtype=states.dtype
        )
        columns = is_large.any(0).nonzero().flatten()
        if len(columns):
            large = rows[:, columns].masked_fill(~is_large[:, columns], 0)
            out = out.addmm(large, self._columns(columns, states.dtype).T)
        return out.view(*states.shape[:-1], -1)

    def _columns(self, columns: Tensor, dtype: torch.dtype) -> Tensor:
        """Some columns of the weight as numbers again: (out, columns)."""
        return (self.weight[:, columns] * (self.scale / LIMIT)[:, None]).to(dtype)


def quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (rows, in) int8 and the largest magnitude of each row (rows,) float32."""
    # A row of zeros (what a ReLU leaves, at times) has codes of zero, not 0 / 0.
    scales = rows.abs().amax(1).float().clamp_min(torch.finfo(torch.float16).tiny)
    codes = (rows * (LIMIT / scales)[:, None]).round_().to(torch.int8)
    return codes, scales


def separate_rows(network: Any) -> None:
    """Put Int8Linear in the place of every Linear8bitLt of bitsandbytes; weights are shared."""
    from bitsandbytes.nn.modules import Linear8bitLt

    found = [name for name, one in network.named_modules() if isinstance(one, Linear8bitLt)]
    for name in found:
        linear = network.get_submodule(name)
        weight = linear.weight
        network.set_submodule(name, Int8Linear(weight.data, weight.SCB, linear.bias))
