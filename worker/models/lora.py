"""LoRA adapters beside the weights: each row of a batch is computed with its own adapter.

Hu et al. 2021, https://arxiv.org/abs/2106.09685: a layer x W^T becomes x W^T + scale (x A^T) B^T.
The matrices of all adapters are stacked, so that one pair of products serves a batch of any
adapters; the ranks of other adapters are set to zero in each row. A row's result is that of its
adapter alone, and adding zero does not change a row without an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.row_adapters import RowAdapters


@dataclass(frozen=True, slots=True)
class LoraMatrices:
    """The change of one linear layer by an adapter: fp32 on the host."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank), scaled


#: The matrices of an adapter by the name of the module.
LoraLayers = Mapping[str, LoraMatrices]


class LoraLinear(nn.Module):
    """A linear layer of any precision with the adapters of its rows."""

    down: Tensor
    up: Tensor
    foreign: Tensor

    def __init__(
        self,
        base: nn.Module,
        adapters: RowAdapters,
        matrices: Sequence[LoraMatrices | None],
        dtype: torch.dtype,
    ) -> None:
        """`matrices` has one entry for each adapter; None if it does not change this layer."""
        super().__init__()
        self.base, self.adapters = base, adapters
        changes = [change for change in matrices if change is not None]
        device: Any = adapters.device
        down = torch.cat([change.down for change in changes])
        up = torch.cat([change.up for change in changes], 1).T
        self.register_buffer("down", down.to(device, dtype))
        self.register_buffer("up", up.to(device, dtype).contiguous())
        self.register_buffer("foreign", foreign_ranks(matrices).to(device))

    @property
    def weight(self) -> Any:
        """The weight of the layer without adapters; T5 reads its type."""
        return self.base.weight

    @property
    def bias(self) -> Any:
        return self.base.bias

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., in) to (..., out). The rows of the batch are the slowest dimension."""
        return self.add(states, self.base(states))

    def add(self, states: Tensor, out: Tensor) -> Tensor:
        """Add the change of each row's adapter to `out`, the layer's result without adapters."""
        indices = self.adapters.indices
        if indices is None:
            return out
        ranks = nn.functional.linear(states.to(self.down.dtype), self.down)
        ranks = ranks.view(len(indices), -1, ranks.shape[-1])
        # Filled, not multiplied: a rank that is not finite must not reach another row.
        ranks = ranks.masked_fill(self.foreign[indices][:, None], 0).flatten(0, 1)
        flat = out.reshape(-1, out.shape[-1])
        if flat.dtype == self.up.dtype:
            return torch.addmm(flat, ranks, self.up).view(out.shape)
        return (flat + (ranks @ self.up).to(flat.dtype)).view(out.shape)


def foreign_ranks(matrices: Sequence[LoraMatrices | None]) -> Tensor:
    """Return which ranks do not belong to an adapter: bool (1 + adapters, ranks); row 0 is none."""
    sizes = [0 if change is None else len(change.down) for change in matrices]
    owners = torch.repeat_interleave(torch.arange(1, 1 + len(sizes)), torch.tensor(sizes))
    return owners != torch.arange(1 + len(sizes))[:, None]


def add_adapters(
    network: Any, adapters: RowAdapters, layers: Sequence[LoraLayers], dtype: torch.dtype
) -> None:
    """Replace the linear layers that any of the adapters changes; `dtype` is that of activations.

    `layers` are in the order of the adapters' names.
    """
    for name in dict.fromkeys(name for each in layers for name in each):
        base = network.get_submodule(name)
        # Weights that stay in fp32 compute in fp32; quantized ones are no floating-point numbers.
        own = base.weight.dtype
        matrices = [each.get(name) for each in layers]
        linear = LoraLinear(base, adapters, matrices, own if own.is_floating_point else dtype)
        network.set_submodule(name, linear)


def without_adapters(module: Any) -> Any:
    """Return a layer without its adapters; any other module unchanged."""
    return module.base if isinstance(module, LoraLinear) else module
