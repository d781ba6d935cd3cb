"""BLIP's text decoder: a BERT that writes, and at each token looks at a source (image, question).

Li et al. 2022, https://arxiv.org/abs/2201.12086. The forward pass is written out over the modules
of transformers' BlipTextLMHeadModel, so that keys and values lie in slots; and because the
library's own drops the mask of the source, so that a shorter question would see its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions
from worker.engine.slots import Pass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.generation import arguments, ids_of, new_tokens


class BlipTextDecoder:
    """`network` is a BlipTextLMHeadModel in evaluation mode, with sources of `source_limit`."""

    def __init__(self, network: Any, source_limit: int) -> None:
        config = network.config
        self.network, self.source_limit = network, source_limit
        self.layers, self.embeddings = list(network.bert.encoder.layer), network.bert.embeddings
        self.heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // self.heads
        self.max_length = int(config.max_position_embeddings)
        self.vocab_size = int(config.vocab_size)
        self.bos_id, self.pad_id = int(config.bos_token_id), int(config.pad_token_id)
        # As BLIP's own `generate`: a text ends where BERT's does; eos_token_id is a left-over.
        self.eos_ids = ids_of(config.sep_token_id)
        self.suppressed_ids = ids_of(network.generation_config.suppress_tokens)

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.layers), self.heads, self.head_dim)
        weight = self.embeddings.word_embeddings.weight
        return SlotCache(
            shape, rows, self.max_length, weight.dtype, weight.device, self.source_limit
        )

    def prefill(
        self,
        source: Tensor,
        source_lengths: Sequence[int],
        prompts: Sequence[Prompt],
        slots: SlotCache,
    ) -> Tensor:
        """Append newcomers with sources (n, longest, hidden), padded on the right. Their logits."""
        lengths = [len(prompt.start) for prompt in prompts]
        at = slots.begin_prefill(lengths, source_lengths)
        device = source.device
        padded = [one.start + [self.pad_id] * (at.width - len(one.start)) for one in prompts]
        hidden = self._layers(torch.tensor(padded, device=device), slots, at, source)
        last = torch.tensor(lengths, device=device) - 1
        logits: Tensor = self.network.cls(hidden[torch.arange(len(prompts), device=device), last])
        slots.append(lengths, source_lengths)
        return logits

    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        at = slots.begin_decode(start, stop)
        hidden = self._layers(slots.tokens[start:stop, None], slots, at)
        logits: Tensor = self.network.cls(hidden[:, 0])
        return logits

    def _layers(
        self, ids: Tensor, slots: SlotCache, at: Pass, source: Tensor | None = None
    ) -> Tensor:
        """Hidden states (rows, new, hidden) of token ids (rows, new)."""
        embeddings = self.embeddings
        places = embeddings.position_embeddings(at.positions)
        hidden: Tensor = embeddings.LayerNorm(embeddings.word_embeddings(ids) + places)
        for number, layer in enumerate(self.layers):
            hidden = self._recall(number, layer.attention, hidden, slots, at)
            hidden = self._look(number, layer.crossattention, hidden, slots, at, source)
            hidden = layer.feed_forward_chunk(hidden)
        return hidden

    def _recall(
        self, number: int, module: Any, hidden: Tensor, slots: SlotCache, at: Pass
    ) -> Tensor:
        """Attention to the row's own tokens so far."""
        inner = module.self
        keys, values = slots.store(
            at, number, self._split(inner.key(hidden)), self._split(inner.value(hidden))
        )
        seen = attend(self._split(inner.query(hidden)), keys, values, at.mask)
        out: Tensor = module.output(seen, hidden)
        return out

    def _look(
        self,
        number: int,
        module: Any,
        hidden: Tensor,
        slots: SlotCache,
        at: Pass,
        source: Tensor | None,
    ) -> Tensor:
        """Attention to the row's source, which only a prefill brings."""
        inner = module.self
        if source is None:
            keys, values = slots.source(at, number)
        else:
            keys, values = self._split(inner.key(source)), self._split(inner.value(source))
            slots.store_source(at, number, keys, values)
        seen = attend(self._split(inner.query(hidden)), keys, values, at.source_mask)
        out: Tensor = module.output(seen, hidden)
        return out

    def _split(self, states: Tensor) -> Tensor:
        return split_heads(states, self.head_dim)

    def generate(
        self,
        source: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        """New tokens of rows with sources (n, length, hidden). Nothing is padded."""
        ids = torch.tensor([prompt.start for prompt in prompts], device=source.device)
        rows = self.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=source,
            eos_token_id=list(self.eos_ids),
            pad_token_id=self.pad_id,
            **arguments(options, stop),
        )
        return new_tokens(rows[:, ids.shape[1] :], self.eos_ids)
