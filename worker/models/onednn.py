"""Linear layers over many rows in fp32 on an x86 CPU, computed by oneDNN.

torch computes these products with MKL. oneDNN takes 6 to 12 % less time (AMD EPYC with AVX-512, one
thread, 260 rows and more), and applies an exact GELU while a result is still in the cache. Below
about 100 rows MKL is faster.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

#: Maximum bytes of a weight that is copied to oneDNN's own layout, which saves 3 to 5 %. The layers
#: of a ViT-L are smaller, those of BLIP-2's ViT-g (4 GB in fp32) are not.
MAX_PACKED_BYTES: Final = 20 * 2**20


class OneDnnLinear:
    """A supported `nn.Linear`, optionally with a GELU: (rows, in) to (rows, out)."""

    def __init__(self, linear: Any, gelu: bool = False) -> None:
        self.weight, self.bias = linear.weight.detach(), linear.bias
        if self.weight.nbytes <= MAX_PACKED_BYTES:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        self.activation = "gelu" if gelu else "none"

    def __call__(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, self.activation, [], "none"
        )
        return out


def is_supported(linear: Any) -> bool:
    """Return whether OneDnnLinear may replace a module: a plain linear layer, fp32, on a CPU."""
    return (
        type(linear) is nn.Linear
        and linear.weight.dtype == torch.float32
        and linear.weight.device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def is_exact_gelu(activation: Any) -> bool:
    """Return whether an activation is x * Phi(x) itself, not an approximation."""
    return isinstance(activation, GELUActivation) and activation.act is nn.functional.gelu
