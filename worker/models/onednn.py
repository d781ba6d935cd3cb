"""Linear layers over many rows, in fp32 on an x86 CPU: through oneDNN.

torch gives these products to MKL. oneDNN's take 6 to 12 % less time (AMD EPYC with AVX-512, one
thread, 260 rows and more), and it applies an exact GELU while a result is still in the cache. Below
about 100 rows MKL is the faster one.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

#: Bytes of the largest weight that is kept a second time in oneDNN's own order, which saves 3 to
#: 5 %. The layers of a ViT-L stay below it, those of the ViT-g of BLIP-2 (4 GB in fp32) do not.
MAX_PACKED: Final = 20 * 2**20


class OneDnnLinear:
    """An `nn.Linear` that `is_supported`, with a GELU where asked for: (rows, in) to (rows, out)."""

    def __init__(self, linear: Any, gelu: bool = False) -> None:
        self.weight, self.bias = linear.weight.detach(), linear.bias
        if self.weight.nbytes <= MAX_PACKED:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        self.after = "gelu" if gelu else "none"

    def __call__(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, self.after, [], "none"
        )
        return out


def is_supported(linear: Any) -> bool:
    """Whether a module may become a Dense: nothing quantised, in half precision or on a GPU."""
    return (
        type(linear) is nn.Linear
        and linear.weight.dtype == torch.float32
        and linear.weight.device.type == "cpu"
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def is_exact_gelu(activation: Any) -> bool:
    """Whether this is x * Phi(x) itself, and no approximation of it."""
    return isinstance(activation, GELUActivation) and activation.act is nn.functional.gelu
