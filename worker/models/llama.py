"""LLaMA (Vicuna) as InstructBLIP's language model.

Touvron et al. 2023, https://arxiv.org/abs/2302.13971; the modules are those of LlamaForCausalLM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worker.engine.slots import ForwardPass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.causal import CausalLanguage

#: Cosines and sines of a pass's positions: each (rows or 1, new, dim).
Rotation = tuple[Tensor, Tensor]


class LlamaLanguage(CausalLanguage):
    """The language model of a LlamaForCausalLM; a row begins with `queries` image tokens."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        attention = network.get_decoder().layers[0].self_attn
        config, self.head_dim = network.config, int(attention.head_dim)
        shape = (int(config.num_hidden_layers), int(config.num_key_value_heads), self.head_dim)
        super().__init__(network, tokenizer, image_id, queries, shape)
        #: Heads of queries that share a head of keys and values.
        self.group = int(attention.num_key_value_groups)
        self.scaling = float(attention.scaling)

    def run_decoder(
        self, inputs: Tensor, slots: SlotCache, forward: ForwardPass, last: Tensor | None = None
    ) -> Tensor:
        rotation = self.decoder.rotary_emb(inputs, forward.positions)
        hidden, end = inputs, self.kv_shape[0] - 1
        for number, layer in enumerate(self.decoder.layers):
            only = last if number == end else None
            hidden = self._layer(number, layer, hidden, rotation, slots, forward, only)
        states: Tensor = self.decoder.norm(hidden)
        return states

    def _layer(
        self,
        number: int,
        layer: Any,
        hidden: Tensor,
        rotation: Rotation,
        slots: SlotCache,
        forward: ForwardPass,
        last: Tensor | None,
    ) -> Tensor:
        attention, inner = layer.self_attn, layer.input_layernorm(hidden)
        queries = rotate(split_heads(attention.q_proj(inner), self.head_dim), rotation)
        keys = rotate(split_heads(attention.k_proj(inner), self.head_dim), rotation)
        values = split_heads(attention.v_proj(inner), self.head_dim)
        keys, values = slots.store(forward, number, keys, values)
        mask = forward.mask
        if last is not None:
            # The last layer's other positions are needed for their keys and values only.
            rows = torch.arange(len(last), device=last.device)
            hidden, queries = hidden[rows, last][:, None], queries[rows, last][:, None]
            mask = mask[0, 0].index_select(0, last)[:, None, None]
        if self.group > 1:
            keys, values = (states.repeat_interleave(self.group, 2) for states in (keys, values))
        context = attend(queries, keys, values, mask, self.scaling)
        hidden = hidden + attention.o_proj(context)
        states: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return states


def rotate(states: Tensor, rotation: Rotation) -> Tensor:
    """Apply rotary position embeddings to states (rows, new, heads, dim)."""
    cosines, sines = (part.unsqueeze(2) for part in rotation)
    first, second = states.chunk(2, -1)
    return states * cosines + torch.cat((-second, first), -1) * sines
