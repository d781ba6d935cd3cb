"""The Q-Former of BLIP-2: what a few query tokens read from an image.

Li et al. 2023, https://arxiv.org/abs/2301.12597. The queries are the same for every image, so what
they do before they first look at one is computed once. And they are few against the tokens of an
image, so that cross-attention is cheaper regrouped, without a key and a value for each token:

    q (X Wk)^T = (q Wk^T) X^T        softmax(...) (X Wv) = (softmax(...) X) Wv

A bias of the keys adds the same to all scores of a query, which softmax ignores; the bias of the
values passes through, as the weights of a query sum to one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worker.models.attention import split_heads


class QFormer:
    """`qformer` is a Blip2QFormerModel; `projection` leads to the width of what reads the image."""

    def __init__(self, qformer: Any, query_tokens: Tensor, projection: Any) -> None:
        self.model, self.query_tokens, self.projection = qformer, query_tokens, projection
        self.layers = list(qformer.encoder.layer)
        self.regroups = all(map(can_regroup, self.layers))
        if self.regroups:
            self._begin()

    @torch.inference_mode()
    def _begin(self) -> None:
        self.begun: Tensor = self.layers[0].attention(self.model.layernorm(self.query_tokens))
        self.looks = [
            QFormerAttention(layer.crossattention, self.begun if layer is self.layers[0] else None)
            if layer.has_cross_attention
            else None
            for layer in self.layers
        ]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Image states (n, tokens, hidden) to features (n, queries, width)."""
        read = self._read(hidden) if self.regroups else self._by_modules(hidden)
        # With fp16 the Q-Former stays in fp32, and only it does.
        features: Tensor = self.projection(read.to(hidden.dtype))
        return features

    def _by_modules(self, hidden: Tensor) -> Tensor:
        queries = self.query_tokens.expand(len(hidden), -1, -1)
        read: Tensor = self.model(queries, encoder_hidden_states=hidden).last_hidden_state
        return read

    def _read(self, hidden: Tensor) -> Tensor:
        states, image = self.begun.expand(len(hidden), -1, -1), hidden.to(self.begun.dtype)
        for number, (layer, look) in enumerate(zip(self.layers, self.looks, strict=True)):
            states = layer.attention(states) if number else states
            states = states if look is None else look(states, image)
            states = layer.feed_forward_chunk_query(states)
        return states


class QFormerAttention:
    """The cross-attention of one layer; `always` is what it gets where that never varies."""

    def __init__(self, module: Any, always: Tensor | None) -> None:
        attention, self.output = module.attention, module.output
        self.query, self.head_dim = attention.query, int(attention.attention_head_size)
        # Of each head (heads, dim, image width) and (heads, image width, dim).
        key, value = (
            one.weight.detach().view(-1, self.head_dim, one.in_features)
            for one in (attention.key, attention.value)
        )
        self.key, self.value = key * attention.scaling, value.transpose(1, 2).contiguous()
        self.value_bias = attention.value.bias
        self.asked = self._ask(always) if always is not None else None

    def __call__(self, states: Tensor, image: Tensor) -> Tensor:
        """The next states of the queries: (n, queries, hidden)."""
        n, queries, width = states.shape
        asked = self._ask(states) if self.asked is None else self.asked.expand(n, -1, -1)
        scores = torch.bmm(asked, image.transpose(1, 2))
        means = torch.bmm(scores.softmax(-1), image).view(n, -1, queries, image.shape[2])
        values = torch.bmm(means.transpose(0, 1).flatten(1, 2), self.value)
        seen = values.view(-1, n, queries, self.head_dim).permute(1, 2, 0, 3)
        next_states: Tensor = self.output(seen.reshape(n, queries, width) + self.value_bias, states)
        return next_states

    def _ask(self, states: Tensor) -> Tensor:
        """What image tokens are multiplied with for scores: (n, heads * queries, image width)."""
        n, queries, _ = states.shape
        by_head = split_heads(self.query(states), self.head_dim).permute(2, 0, 1, 3).flatten(1, 2)
        asked = torch.bmm(by_head, self.key).view(-1, n, queries, self.key.shape[2])
        return asked.transpose(0, 1).flatten(1, 2)


def can_regroup(layer: Any) -> bool:
    """Whether the weights are there as numbers: not what is quantised, or rounds coarsely."""
    if not layer.has_cross_attention:
        return True
    attention = layer.crossattention.attention
    return all(
        type(one) is nn.Linear and one.weight.dtype == torch.float32
        for one in (attention.key, attention.value)
    )
