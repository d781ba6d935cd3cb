"""The vision transformer (ViT) of BLIP, BLIP-2 and InstructBLIP, with a fast path for CPUs.

Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929. With quantised or half-precision weights
or on a GPU, transformers' own forward pass runs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from worker.models.attention import attend, split_heads
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
    """A vision encoder: `vision_model` is a Blip-, Blip2- or InstructBlipVisionModel."""

    def __init__(self, vision_model: Any) -> None:
        self.model = vision_model
        layers = vision_model.encoder.layers
        supported = all(map(is_layer_supported, layers))
        self.layers = [VisionLayer(layer) for layer in layers] if supported else []

    def __call__(self, images: Tensor) -> Tensor:
        """Return the last hidden states (n, tokens, hidden) of images (n, 3, height, width)."""
        if not self.layers:
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
        self.qkv, self.projection = OneDnnLinear(attention.qkv), OneDnnLinear(attention.projection)
        self.grow, self.shrink = OneDnnLinear(layer.mlp.fc1, gelu=True), OneDnnLinear(layer.mlp.fc2)
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
    attention, mlp = layer.self_attn, layer.mlp
    linears = (attention.qkv, attention.projection, mlp.fc1, mlp.fc2)
    return is_exact_gelu(mlp.activation_fn) and all(map(is_supported, linears))
