"""The Q-Former of BLIP-2: a few query tokens read an image by cross-attention.

Li et al. 2023, https://arxiv.org/abs/2301.12597. The queries are the same for every image, so their
states before the first cross-attention are computed once. There are few queries and many image
tokens, so cross-attention is cheaper if regrouped, without a key and a value for each token:

    q (X Wk)^T = (q Wk^T) X^T        softmax(...) (X Wv) = (softmax(...) X) Wv

A bias of the keys adds the same to all scores of a query, which softmax ignores; a bias of the
values is added unchanged, as the weights of a query sum to one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worker.engine.row_adapters import RowAdapters
from worker.models.attention import split_heads
from worker.models.lora import without_adapters


class QFormer:
    """A Q-Former (Blip2QFormerModel) with the projection to the language model's width.

    Images with an adapter take transformers' own forward pass.
    """

    def __init__(
        self,
        qformer: Any,
        query_tokens: Tensor,
        projection: Any,
        adapters: RowAdapters | None = None,
    ) -> None:
        self.model, self.query_tokens, self.projection = qformer, query_tokens, projection
        self.adapters = adapters or RowAdapters()
        self.layers = list(qformer.encoder.layer)
        self.regrouped = all(map(can_regroup, self.layers))
        if self.regrouped:
            self._precompute()

    @torch.inference_mode()
    def _precompute(self) -> None:
        first = self.layers[0]
        #: States of the queries after the first self-attention.
        self.query_states: Tensor = first.attention(self.model.layernorm(self.query_tokens))
        self.cross_attentions = [
            QFormerAttention(layer.crossattention, self.query_states if layer is first else None)
            if layer.has_cross_attention
            else None
            for layer in self.layers
        ]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map image states (n, tokens, hidden) to features (n, queries, width)."""
        regrouped = self.regrouped and not self.adapters.active
        states = self._run_regrouped(hidden) if regrouped else self._run_modules(hidden)
        # In fp16, only the Q-Former stays in fp32.
        features: Tensor = self.projection(states.to(hidden.dtype))
        return features

    def _run_modules(self, hidden: Tensor) -> Tensor:
        queries = self.query_tokens.expand(len(hidden), -1, -1)
        states: Tensor = self.model(queries, encoder_hidden_states=hidden).last_hidden_state
        return states

    def _run_regrouped(self, hidden: Tensor) -> Tensor:
        states = self.query_states.expand(len(hidden), -1, -1)
        image = hidden.to(states.dtype)
        pairs = zip(self.layers, self.cross_attentions, strict=True)
        for number, (layer, cross_attention) in enumerate(pairs):
            states = layer.attention(states) if number else states
            states = states if cross_attention is None else cross_attention(states, image)
            states = layer.feed_forward_chunk_query(states)
        return states


class QFormerAttention:
    """The regrouped cross-attention of a layer; `constant` are its states if they never vary."""

    def __init__(self, module: Any, constant: Tensor | None) -> None:
        attention, self.output = module.attention, module.output
        self.query, self.head_dim = attention.query, int(attention.attention_head_size)
        # By head: (heads, dim, image width) and (heads, image width, dim).
        key, value = (
            linear.weight.detach().view(-1, self.head_dim, linear.in_features)
            for linear in map(without_adapters, (attention.key, attention.value))
        )
        self.key, self.value = key * attention.scaling, value.transpose(1, 2).contiguous()
        self.value_bias = attention.value.bias
        self.constant = self._project_queries(constant) if constant is not None else None

    def __call__(self, states: Tensor, image: Tensor) -> Tensor:
        """Return the next states of the queries: (n, queries, hidden)."""
        n, queries, width = states.shape
        if self.constant is None:
            projected = self._project_queries(states)
        else:
            projected = self.constant.expand(n, -1, -1)
        scores = torch.bmm(projected, image.transpose(1, 2))
        means = torch.bmm(scores.softmax(-1), image).view(n, -1, queries, image.shape[2])
        values = torch.bmm(means.transpose(0, 1).flatten(1, 2), self.value)
        context = values.view(-1, n, queries, self.head_dim).permute(1, 2, 0, 3)
        context = context.reshape(n, queries, width) + self.value_bias
        next_states: Tensor = self.output(context, states)
        return next_states

    def _project_queries(self, states: Tensor) -> Tensor:
        """Return q Wk^T (n, heads * queries, image width); its product with X^T is the scores."""
        n, queries, _ = states.shape
        by_head = split_heads(self.query(states), self.head_dim).permute(2, 0, 1, 3).flatten(1, 2)
        projected = torch.bmm(by_head, self.key).view(-1, n, queries, self.key.shape[2])
        return projected.transpose(0, 1).flatten(1, 2)


def can_regroup(layer: Any) -> bool:
    """Return whether a layer's keys and values are plain fp32, neither quantised nor half."""
    if not layer.has_cross_attention:
        return True
    attention = layer.crossattention.attention
    return all(
        type(linear) is nn.Linear and linear.weight.dtype == torch.float32
        for linear in map(without_adapters, (attention.key, attention.value))
    )
