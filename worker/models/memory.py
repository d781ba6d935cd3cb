"""What a model needs of a device's memory, by its configuration alone: no weights are read.

Weights are counted exactly, tensor by tensor, and rows as the engine's slots hold them. What passes
through the layers is a rough figure; allocators and libraries add to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import torch
from torch import nn

from worker.models import memory_shapes
from worker.models.onednn import MAX_PACKED
from worker.models.precision import Plan, make_plan

#: Images that pass the vision encoder together, at most.
IMAGES: Final = 32
#: Weights that share one scale in int4, and such scales that share another.
INT4_BLOCK, SCALE_BLOCK = 64, 256
#: float32 of an int4 matrix beside these: 16 codes, 256 codes of its scales, and their offset.
INT4_TABLES: Final = 4 * (16 + 256 + 1)


@dataclass(frozen=True)
class Estimate:
    """What one model needs in one precision, in bytes. A row is one image with one text."""

    precision: str
    parameters: int
    weight_bytes: int
    #: Weights that are kept a second time, in the order that a fast kernel wants.
    copy_bytes: int
    #: Keys and values of an ordinary row, and of each token that a row has beyond `row_tokens`.
    row_bytes: int
    row_tokens: int
    token_bytes: int
    #: What a row takes while it enters: activations and logits.
    work_bytes: int
    #: What an image takes on its way through the vision encoder.
    image_bytes: int

    @property
    def least_bytes(self) -> int:
        """Weights, one image and one row."""
        return self.constant_bytes + self.image_bytes + self.row_bytes + self.work_bytes

    @property
    def constant_bytes(self) -> int:
        """What is there without any row."""
        return self.weight_bytes + self.copy_bytes

    def rows(self, free: int) -> int:
        """How many rows fit into `free` bytes beside the weights, with an image each at first."""
        room, each = free - self.constant_bytes, self.row_bytes + self.work_bytes
        few = room // (each + self.image_bytes)
        return max(0, few if few <= IMAGES else (room - IMAGES * self.image_bytes) // each)


def estimate(
    config: Any, precision: str, device: torch.device | None = None, network_class: Any = None
) -> Estimate:
    """Of a configuration as `read_config` gives it; on a GPU unless told. Raises LoadError."""
    network = memory_shapes.skeleton(config, network_class)
    plan = make_plan(network, precision, device or torch.device("cuda"))
    return estimate_plan(network, plan)


def estimate_plan(network: Any, plan: Plan) -> Estimate:
    """Of a network, which may lie on the meta device."""
    config, element = network.config, plan.dtype.itemsize
    row, text, vision = (
        memory_shapes.row(config),
        memory_shapes.text_stack(config),
        memory_shapes.vision_stack(config),
    )
    token_bytes = 2 * row.layers * row.width * element
    return Estimate(
        precision=plan.precision,
        parameters=sum(one.numel() for one in network.parameters()),
        weight_bytes=weight_bytes(network, plan),
        copy_bytes=copy_bytes(network, plan),
        row_bytes=token_bytes * (row.tokens + row.source_tokens),
        row_tokens=row.tokens,
        token_bytes=token_bytes,
        # The logits once more in float32, for the sampler.
        work_bytes=layer_bytes(text, plan) + memory_shapes.vocabulary(config) * (element + 4),
        image_bytes=layer_bytes(vision, plan) + 3 * 4 * config.vision_config.image_size**2,
    )


def weight_bytes(network: Any, plan: Plan) -> int:
    """Every parameter and buffer, tied ones once."""
    total = sum(int(one.nbytes) for one in network.buffers())
    for name, one in network.named_parameters():
        if name.removesuffix(".weight") in plan.quantized:
            total += _quantized_bytes(one, plan.precision)
        elif name in plan.full:
            total += 4 * one.numel()
        else:
            total += plan.dtype.itemsize * one.numel()
    return total


def copy_bytes(network: Any, plan: Plan) -> int:
    """What worker.models.onednn keeps beside the vision encoder's own matrices."""
    if (plan.device, plan.precision) != ("cpu", "fp32"):
        return 0
    layers = network.vision_model.encoder.layers
    sizes = [4 * one.weight.numel() for one in layers.modules() if type(one) is nn.Linear]
    return sum(size for size in sizes if size <= MAX_PACKED)


def _quantized_bytes(matrix: torch.Tensor, precision: str) -> int:
    """Of a matrix (out, in)."""
    if precision == "int8":
        return matrix.numel() + 4 * len(matrix)  # one float32 for each line
    scales = ceil(matrix.numel() / INT4_BLOCK)
    return ceil(matrix.numel() / 2) + scales + 4 * ceil(scales / SCALE_BLOCK) + INT4_TABLES


def layer_bytes(stack: memory_shapes.LayerShape, plan: Plan) -> int:
    """Activations of the widest moment: three states, and two of the feed-forward part."""
    element = plan.dtype.itemsize
    each = (3 * stack.width + 2 * stack.inner) * element
    if plan.precision == "int8":
        each += 3 * 4 * stack.inner  # sums in int32, twice scaled in float32
    return stack.tokens * each
