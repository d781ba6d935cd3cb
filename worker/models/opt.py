"""OPT as BLIP-2's language model.

Zhang et al. 2022, https://arxiv.org/abs/2205.01068; the modules are those of OPTForCausalLM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worker.engine.slots import ForwardPass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.causal import CausalLanguage
from worker.models.fused import as_function, fuse_linears

#: Offset of OPT's position embeddings: the third embedding is that of position 0.
POSITION_OFFSET = 2


class OptLayer:
    """The functions of an OPTDecoderLayer."""

    def __init__(self, layer: Any) -> None:
        attention = layer.self_attn
        self.scaling = float(attention.scaling)
        self.queries_keys_values = fuse_linears(
            [attention.q_proj, attention.k_proj, attention.v_proj]
        )
        self.out, self.norm1 = (
            as_function(attention.out_proj),
            as_function(layer.self_attn_layer_norm),
        )
        self.fc1, self.fc2, self.norm2 = (
            as_function(layer.fc1),
            as_function(layer.fc2),
            as_function(layer.final_layer_norm),
        )
        self.activation = layer.activation_fn


class OptLanguage(CausalLanguage):
    """The language model of an OPTForCausalLM; a row begins with `queries` image tokens."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        config = network.config
        heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // heads
        shape = (int(config.num_hidden_layers), heads, self.head_dim)
        super().__init__(network, tokenizer, image_id, queries, shape)
        self.layers = [OptLayer(layer) for layer in self.decoder.layers]
        self.position_embeddings = self.decoder.embed_positions.weight
        self.norm_first = bool(config.do_layer_norm_before)

    def run_decoder(
        self, inputs: Tensor, slots: SlotCache, forward: ForwardPass, last: Tensor | None = None
    ) -> Tensor:
        decoder, end = self.decoder, len(self.layers) - 1
        if decoder.project_in is not None:
            inputs = decoder.project_in(inputs)
        positions = forward.positions + POSITION_OFFSET
        hidden = inputs + torch.nn.functional.embedding(positions, self.position_embeddings)
        for number, layer in enumerate(self.layers):
            hidden = self._layer(
                number, layer, hidden, slots, forward, last if number == end else None
            )
        if decoder.final_layer_norm is not None:
            hidden = decoder.final_layer_norm(hidden)
        if decoder.project_out is not None:
            hidden = decoder.project_out(hidden)
        return hidden

    def _layer(
        self,
        number: int,
        layer: OptLayer,
        hidden: Tensor,
        slots: SlotCache,
        forward: ForwardPass,
        last: Tensor | None,
    ) -> Tensor:
        norm_first = self.norm_first  # all but the 350m checkpoint
        inner = layer.norm1(hidden) if norm_first else hidden
        queries, keys, values = (
            split_heads(states, self.head_dim) for states in layer.queries_keys_values(inner)
        )
        keys, values = slots.store(forward, number, keys, values)
        mask = forward.mask
        if last is not None:
            # The last layer's other positions are needed for their keys and values only.
            rows = torch.arange(len(last), device=last.device)
            hidden, queries = hidden[rows, last][:, None], queries[rows, last][:, None]
            mask = mask[0, 0].index_select(0, last)[:, None, None]
        # In OPT's own order: the query is scaled before the product, not the product.
        context = attend(queries * layer.scaling, keys, values, mask, scale=1.0)
        hidden = hidden + layer.out(context)
        hidden = hidden if norm_first else layer.norm1(hidden)
        inner = layer.norm2(hidden) if norm_first else hidden
        hidden = hidden + layer.fc2(layer.activation(layer.fc1(inner)))
        return hidden if norm_first else layer.norm2(hidden)
