"""An int8 linear layer whose rows do not depend on each other.

LLM.int8() (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339) multiplies the outliers of an
activation in full precision and the rest in eight bits. bitsandbytes selects outliers by column,
for all rows of a batch at once: a large value in one row changes the rounding of the others. Here
each value is selected on its own, so that a batch does not change a row. The products are
those of bitsandbytes.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

#: Magnitude from which an activation is an outlier (the paper's threshold).
OUTLIER: Final = 6.0
#: The largest code. Symmetric: -128 is not used.
LIMIT: Final = 127.0


class Int8Linear(nn.Module):
    """A linear layer of `weight` (out, in) int8 and `scale` (out,), the maximum of each row."""

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = bias

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., in) to (..., out) of the input's type."""
        rows = states.reshape(-1, states.shape[-1])
        is_outlier = rows.abs() >= OUTLIER
        codes, scales = quantize(rows.masked_fill(is_outlier, 0))
        out: Tensor = torch.ops.bitsandbytes.int8_scaled_mm(
            codes, self.weight, scales, self.scale, bias=self.bias, dtype=states.dtype
        )
        columns = is_outlier.any(0).nonzero().flatten()
        if len(columns):
            outliers = rows[:, columns].masked_fill(~is_outlier[:, columns], 0)
            out = out.addmm(outliers, self._columns(columns, states.dtype).T)
        return out.view(*states.shape[:-1], -1)

    def _columns(self, columns: Tensor, dtype: torch.dtype) -> Tensor:
        """Return dequantised columns of the weight: (out, columns)."""
        return (self.weight[:, columns] * (self.scale / LIMIT)[:, None]).to(dtype)


def quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes (rows, in) int8 and the largest magnitude of each row (rows,) float32."""
    # A row of zeros (for example after a ReLU) has codes of zero, not 0 / 0.
    scales = rows.abs().amax(1).float().clamp_min(torch.finfo(torch.float16).tiny)
    codes = (rows * (LIMIT / scales)[:, None]).round_().to(torch.int8)
    return codes, scales


def separate_rows(network: Any) -> None:
    """Replace every Linear8bitLt of bitsandbytes by an Int8Linear; the weights are shared."""
    from bitsandbytes.nn.modules import Linear8bitLt

    modules = dict(network.named_modules())
    for name in [name for name, module in modules.items() if isinstance(module, Linear8bitLt)]:
        linear = network.get_submodule(name)
        weight = linear.weight
        network.set_submodule(name, Int8Linear(weight.data, weight.SCB, linear.bias))
