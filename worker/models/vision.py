"""The vision transformer (ViT) of BLIP, BLIP-2 and InstructBLIP, with a fast path for CPUs.

Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929. With quantised or half-precision weights
or on a GPU, transformers' own forward pass runs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from worker.engine.row_adapters import RowAdapters
from worker.models.attention import attend, split_heads
from worker.models.lora import without_adapters
from worker.models.onednn import OneDnnLinear, is_exact_gelu, is_supported

#: Images that pass all layers together. Fewer images need more calls. With more, a layer's states
#: exceed the CPU cache, and the C library returns and requests their memory repeatedly.
TILE: Final = 8


@torch.no_grad()
def interpolate_positions(embeddings: Any, height: int, width: int) -> None:
    """Replace the position embeddings of a vision model by those for images of another size.

    `interpolate_pos_encoding` of transformers computes them again for every image.
    """
    positions = embeddings.position_embedding
    patches = (height // embeddings.patch_size) * (width // embeddings.patch_size)
    states = positions.new_empty(1, patches + 1, positions.shape[2])
    interpolated = embeddings.interpolate_pos_encoding(states, height, width)
    embeddings.position_embedding = torch.nn.Parameter(interpolated, requires_grad=False)
    embeddings.num_patches, embeddings.num_positions = patches, patches + 1


class VisionTower:
    """A vision encoder: `vision_model` is a Blip-, Blip2- or InstructBlipVisionModel.

    Images with an adapter take transformers' own forward pass.
    """

    def __init__(self, vision_model: Any, adapters: RowAdapters | None = None) -> None:
        self.model, self.adapters = vision_model, adapters or RowAdapters()
        layers = vision_model.encoder.layers
        supported = all(map(is_layer_supported, layers))
        self.layers = [VisionLayer(layer) for layer in layers] if supported else []

    def __call__(self, images: Tensor) -> Tensor:
        """Return the last hidden states (n, tokens, hidden) of images (n, 3, height, width)."""
        if not self.layers or self.adapters.active:
            hidden: Tensor = self.model(pixel_values=images).last_hidden_state
            return hidden
        return torch.cat([self._run(tile) for tile in torch.split(images, TILE)])

    def _run(self, images: Tensor) -> Tensor:
        states: Tensor = self.model.embeddings(images)
        for layer in self.layers:
            layer(states)
        hidden: Tensor = self.model.post_layernorm(states)
        return hidden


class VisionLayer:
    """An encoder layer that changes states (n, tokens, hidden) in place."""

    def __init__(self, layer: Any) -> None:
        attention = layer.self_attn
        self.head_dim, self.scale = int(attention.head_dim), float(attention.scale)
        qkv, projection, grow, shrink = linears_of(layer)
        self.qkv, self.projection = OneDnnLinear(qkv), OneDnnLinear(projection)
        self.grow, self.shrink = OneDnnLinear(grow, gelu=True), OneDnnLinear(shrink)
        self.norm1, self.norm2 = layer.layer_norm1, layer.layer_norm2

    def __call__(self, states: Tensor) -> None:
        n, tokens, width = states.shape
        rows = states.view(-1, width)
        mixed = split_heads(self.qkv(self.norm1(rows)).view(n, tokens, -1), self.head_dim)
        queries, keys, values = mixed.chunk(3, dim=2)
        context = attend(queries, keys, values, scale=self.scale)
        rows += self.projection(context.view(-1, width))
        rows += self.shrink(self.grow(self.norm2(rows)))


def is_layer_supported(layer: Any) -> bool:
    """Return whether `VisionLayer` computes the same as this module."""
    return is_exact_gelu(layer.mlp.activation_fn) and all(map(is_supported, linears_of(layer)))


def linears_of(layer: Any) -> list[Any]:
    """Return the linear layers of an encoder layer without adapters, in the order of their use."""
    attention, mlp = layer.self_attn, layer.mlp
    modules = (attention.qkv, attention.projection, mlp.fc1, mlp.fc2)
    return [without_adapters(module) for module in modules]
