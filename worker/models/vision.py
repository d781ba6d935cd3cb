"""The vision transformer that BLIP, BLIP-2 and InstructBLIP share, without its overhead on a CPU.

Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929. Where weights are quantised, in half
precision or on a GPU, transformers' own forward pass runs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from worker.models.attention import attend, split_heads
from worker.models.onednn import OneDnnLinear, is_exact_gelu, is_supported

#: Images that go through all layers together. Fewer pay more for each call; of more, a layer's
#: states leave the cache, and the C library gives their memory back and fetches it again.
TILE: Final = 8


class VisionTower:
    """`vision_model` is a BlipVisionModel, Blip2VisionModel or InstructBlipVisionModel."""

    def __init__(self, vision_model: Any) -> None:
        self.model = vision_model
        layers = vision_model.encoder.layers
        self.layers = [VisionLayer(one) for one in layers] if all(map(is_plain, layers)) else []

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised (n, 3, size, size) to the last hidden states (n, tokens, hidden)."""
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
    """One encoder layer; changes states (n, tokens, hidden) in place."""

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
        seen = attend(queries, keys, values, scale=self.scale)
        rows += self.projection(seen.view(-1, width))
        rows += self.shrink(self.grow(self.norm2(rows)))


def is_plain(layer: Any) -> bool:
    """Whether `VisionLayer` computes what this module does."""
    attention, mlp = layer.self_attn, layer.mlp
    linears = (attention.qkv, attention.projection, mlp.fc1, mlp.fc2)
    return is_exact_gelu(mlp.activation_fn) and all(map(is_supported, linears))
