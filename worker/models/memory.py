"""Estimates of a model's device memory from only its configuration, without its weights.

Weights are counted exactly, tensor by tensor, and rows in the layout of the engine's slots.
Activations are a rough estimate; allocators and libraries need additional memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import torch
from torch import nn

from worker.models import memory_shapes
from worker.models.image_text.architectures import decoder_config
from worker.models.onednn import MAX_PACKED_BYTES
from worker.models.precision import Plan, make_plan
from worker.models.registry import is_grouped

#: Maximum images in one run of the vision encoder.
IMAGES: Final = 32
#: Number of weights that share a scale in int4, and of scales that share a second-level scale.
INT4_BLOCK, SCALE_BLOCK = 64, 256
#: Bytes of an int4 matrix's float32 tables: 16 codes, 256 codes of its scales, and their offset.
INT4_TABLES: Final = 4 * (16 + 256 + 1)


@dataclass(frozen=True)
class Estimate:
    """Memory of one model in one precision, in bytes. A row is one image with one text."""

    precision: str
    parameters: int
    weight_bytes: int
    #: Second copies of weights, in the layout of a faster kernel.
    copy_bytes: int
    #: Weights of named adapters.
    adapter_bytes: int
    #: Keys and values of an ordinary row, and of each of its tokens beyond `row_tokens`.
    row_bytes: int
    row_tokens: int
    token_bytes: int
    #: Activations and logits of a row's prefill.
    work_bytes: int
    #: Activations of an image in the vision encoder.
    image_bytes: int

    @property
    def least_bytes(self) -> int:
        """Bytes of the weights, one image and one row."""
        return self.constant_bytes + self.image_bytes + self.row_bytes + self.work_bytes

    @property
    def constant_bytes(self) -> int:
        """Bytes without any row."""
        return self.weight_bytes + self.copy_bytes + self.adapter_bytes

    def rows(self, free: int) -> int | None:
        """Return the number of rows, each with an image, that fit `free` bytes with the weights.

        None if the memory of an image is unknown.
        """
        if not self.image_bytes:
            return None
        available, per_row = free - self.constant_bytes, self.row_bytes + self.work_bytes
        rows = available // (per_row + self.image_bytes)
        if rows > IMAGES:
            rows = (available - IMAGES * self.image_bytes) // per_row
        return max(0, rows)


def estimate(
    config: Any,
    precision: str,
    device: torch.device | None = None,
    network_class: Any = None,
    adapter_elements: int = 0,
) -> Estimate:
    """Estimate a configuration from `read_config`; on a GPU by default. Raises LoadError."""
    network = memory_shapes.skeleton(config, network_class)
    plan = make_plan(network, precision, device or torch.device("cuda"))
    return estimate_plan(network, plan, adapter_elements)


def estimate_plan(network: Any, plan: Plan, adapter_elements: int = 0) -> Estimate:
    """Estimate a network, which may be on the meta device, and weights of named adapters."""
    config, element = network.config, plan.dtype.itemsize
    if is_grouped(config):
        return _estimate_weights(network, plan, adapter_elements)
    row = memory_shapes.kv_shape(config)
    text, vision = memory_shapes.text_shape(config), memory_shapes.vision_shape(config)
    token_bytes = 2 * row.layers * row.width * element
    return Estimate(
        precision=plan.precision,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        weight_bytes=weight_bytes(network, plan),
        copy_bytes=copy_bytes(network, plan),
        adapter_bytes=adapter_elements * element,
        row_bytes=token_bytes * (row.tokens + row.source_tokens),
        row_tokens=row.tokens,
        token_bytes=token_bytes,
        # Logits twice: the sampler converts them to float32.
        work_bytes=layer_bytes(text, plan) + memory_shapes.vocab_size(config) * (element + 4),
        image_bytes=layer_bytes(vision, plan) + 3 * 4 * config.vision_config.image_size**2,
    )


def _estimate_weights(network: Any, plan: Plan, adapter_elements: int) -> Estimate:
    """Estimate a model of any architecture: weights, and the keys and values of a token."""
    decoder = decoder_config(network.config)
    return Estimate(
        precision=plan.precision,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        weight_bytes=weight_bytes(network, plan),
        copy_bytes=0,
        adapter_bytes=adapter_elements * plan.dtype.itemsize,
        row_bytes=0,
        row_tokens=0,
        token_bytes=memory_shapes.position_bytes(decoder, plan.dtype),
        work_bytes=0,
        image_bytes=0,
    )


def weight_bytes(network: Any, plan: Plan) -> int:
    """Return the bytes of all parameters and buffers; tied ones count once."""
    total, stored = 0, network.state_dict().keys()
    for name, buffer in network.named_buffers():
        # Those of the checkpoint are loaded in the type of the weights.
        typed = name in stored and buffer.is_floating_point()
        total += buffer.numel() * (plan.dtype if typed else buffer.dtype).itemsize
    for name, parameter in network.named_parameters():
        if name.removesuffix(".weight") in plan.quantized:
            total += _quantized_bytes(parameter, plan.precision)
        elif name in plan.fp32:
            total += 4 * parameter.numel()
        else:
            total += plan.dtype.itemsize * parameter.numel()
    return total


def copy_bytes(network: Any, plan: Plan) -> int:
    """Return the bytes of the matrices that worker.models.onednn copies."""
    if (plan.device, plan.precision) != ("cpu", "fp32"):
        return 0
    layers = network.vision_model.encoder.layers
    linears = [module for module in layers.modules() if type(module) is nn.Linear]
    sizes = [4 * linear.weight.numel() for linear in linears]
    return sum(size for size in sizes if size <= MAX_PACKED_BYTES)


def _quantized_bytes(matrix: torch.Tensor, precision: str) -> int:
    """Return the bytes of a quantized matrix (out, in)."""
    if precision == "int8":
        return matrix.numel() + 4 * len(matrix)  # a float32 scale for each row
    scales = ceil(matrix.numel() / INT4_BLOCK)
    return ceil(matrix.numel() / 2) + scales + 4 * ceil(scales / SCALE_BLOCK) + INT4_TABLES


def layer_bytes(shape: memory_shapes.LayerShape, plan: Plan) -> int:
    """Return the peak activations of a layer: three states, and two of the feed-forward part."""
    per_token = (3 * shape.width + 2 * shape.inner) * plan.dtype.itemsize
    if plan.precision == "int8":
        per_token += 3 * 4 * shape.inner  # int32 sums, and two copies scaled in float32
    return shape.tokens * per_token
