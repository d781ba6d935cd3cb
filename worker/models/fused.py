"""Linear layers and norms without module overhead, and linear layers fused into one product.

A module call costs 2 us more than its function, and three small products cost more than one that is
three times as wide. Without both, a decode step of the demo model (about 40 calls) takes 6 % less
at 60 rows and 10 % less at 12 (AMD EPYC, one thread), and a GPU launches fewer kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from worker.models.lora import LoraLinear, without_adapters

Function = Callable[[Tensor], Tensor]

#: Maximum bytes of weights that are fused on a CPU. Above it the call overhead is negligible, and
#: fusing would copy the weights of a large checkpoint out of their mapped file.
MAX_FUSED_BYTES: Final = 8 * 2**20


def as_function(module: Any) -> Function:
    """Return the function of a plain linear layer or layer norm; any other module unchanged.

    A linear layer with adapters is as fast as without them while no row has one.
    """
    if isinstance(module, LoraLinear):
        base = as_function(module.base)
        return lambda states: module.add(states, base(states))
    if type(module) is nn.Linear:
        return partial(nn.functional.linear, weight=module.weight, bias=module.bias)
    if type(module) is nn.LayerNorm:
        shape, eps = module.normalized_shape, module.eps
        return partial(
            nn.functional.layer_norm,
            normalized_shape=list(shape),
            weight=module.weight,
            bias=module.bias,
            eps=eps,
        )
    function: Function = module
    return function


def fuse_linears(modules: Sequence[Any]) -> Callable[[Tensor], Sequence[Tensor]]:
    """Fuse linear layers with one input into one product if they are plain and small."""
    if not any(isinstance(module, LoraLinear) for module in modules):
        return _fuse(modules)
    fused = _fuse([without_adapters(module) for module in modules])

    def function(states: Tensor) -> Sequence[Tensor]:
        return [
            module.add(states, out) if isinstance(module, LoraLinear) else out
            for module, out in zip(modules, fused(states), strict=True)
        ]

    return function


def _fuse(modules: Sequence[Any]) -> Callable[[Tensor], Sequence[Tensor]]:
    plain = all(type(linear) is nn.Linear and linear.bias is not None for linear in modules)
    size = sum(linear.weight.nbytes for linear in modules)
    if not plain or (modules[0].weight.device.type == "cpu" and size > MAX_FUSED_BYTES):
        return lambda states: [linear(states) for linear in modules]
    widths = [linear.out_features for linear in modules]
    weight = torch.cat([linear.weight.detach() for linear in modules])
    bias = torch.cat([linear.bias.detach() for linear in modules])
    # The modules become views of the fused weight, so that nothing is stored twice.
    for module, part, its_bias in zip(
        modules, torch.split(weight, widths), torch.split(bias, widths), strict=True
    ):
        module.weight.data, module.bias.data = part, its_bias
    return lambda states: torch.split(nn.functional.linear(states, weight, bias), widths, dim=-1)
