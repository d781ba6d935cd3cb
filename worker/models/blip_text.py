"""BLIP's text decoder: a causal BERT with cross-attention to a source (image, question).

Li et al. 2022, https://arxiv.org/abs/2201.12086. The forward pass is reimplemented with the
modules of transformers' BlipTextLMHeadModel, so that keys and values are stored in slots. Also, the
library's own pass ignores the mask of the source, so shorter questions would attend to padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from worker.engine.capacity import FIRST_CAPACITY
from worker.engine.model import Prompt, StopTexts, TokenSequence
from worker.engine.request import GenerationOptions
from worker.engine.slots import ForwardPass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.generation import beam_sequences, generate_arguments, token_ids


class BlipTextDecoder:
    """The text decoder of a BlipTextLMHeadModel, for sources of at most `source_limit`.

    `first_source` is the length of an ordinary source.
    """

    def __init__(self, network: Any, source_limit: int, first_source: int = FIRST_CAPACITY) -> None:
        config = network.config
        self.network = network
        self.source_limit, self.first_source = source_limit, first_source
        self.layers, self.embeddings = list(network.bert.encoder.layer), network.bert.embeddings
        self.heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // self.heads
        positions = int(config.max_position_embeddings)
        self.max_length = positions + 1  # the last token of a row needs no position
        self.vocab_size = int(config.vocab_size)
        self.bos_id, self.pad_id = int(config.bos_token_id), int(config.pad_token_id)
        # As in BLIP's own `generate`: BERT's [SEP] ends a text; eos_token_id is unused.
        self.eos_ids = token_ids(config.sep_token_id)
        self.suppressed_ids = token_ids(network.generation_config.suppress_tokens)

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.layers), self.heads, self.head_dim)
        weight = self.embeddings.word_embeddings.weight
        return SlotCache(
            shape,
            rows,
            self.max_length - 1,
            weight.dtype,
            weight.device,
            self.source_limit,
            self.first_source,
        )

    @torch.inference_mode()
    def prefill(self, source: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        """Prefill new rows with sources (n, longest, hidden), padded on the right."""
        lengths = [len(prompt.start) for prompt in prompts]
        source_lengths = _source_lengths(source, prompts)
        forward = slots.begin_prefill(lengths, source_lengths)
        device, width = source.device, forward.width
        padded = [prompt.start + [self.pad_id] * (width - len(prompt.start)) for prompt in prompts]
        hidden = self._layers(torch.tensor(padded, device=device), slots, forward, source)
        last = torch.tensor(lengths, device=device) - 1
        logits: Tensor = self.network.cls(hidden[torch.arange(len(prompts), device=device), last])
        slots.append(lengths, source_lengths)
        return logits

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        forward = slots.begin_decode(start, stop)
        hidden = self._layers(slots.tokens[start:stop, None], slots, forward)
        logits: Tensor = self.network.cls(hidden[:, 0])
        return logits

    def _layers(
        self, ids: Tensor, slots: SlotCache, forward: ForwardPass, source: Tensor | None = None
    ) -> Tensor:
        """Return hidden states (rows, new, hidden) of token ids (rows, new)."""
        embeddings = self.embeddings
        positions = embeddings.position_embeddings(forward.positions)
        hidden: Tensor = embeddings.LayerNorm(embeddings.word_embeddings(ids) + positions)
        for number, layer in enumerate(self.layers):
            hidden = self._self_attention(number, layer.attention, hidden, slots, forward)
            hidden = self._cross_attention(
                number, layer.crossattention, hidden, slots, forward, source
            )
            hidden = layer.feed_forward_chunk(hidden)
        return hidden

    def _self_attention(
        self, number: int, module: Any, hidden: Tensor, slots: SlotCache, forward: ForwardPass
    ) -> Tensor:
        inner = module.self
        keys, values = slots.store(
            forward, number, self._split(inner.key(hidden)), self._split(inner.value(hidden))
        )
        context = attend(self._split(inner.query(hidden)), keys, values, forward.mask)
        out: Tensor = module.output(context, hidden)
        return out

    def _cross_attention(
        self,
        number: int,
        module: Any,
        hidden: Tensor,
        slots: SlotCache,
        forward: ForwardPass,
        source: Tensor | None,
    ) -> Tensor:
        """Attend to the source, which only a prefill passes in."""
        inner = module.self
        if source is None:
            keys, values = slots.source(forward, number)
        else:
            keys, values = self._split(inner.key(source)), self._split(inner.value(source))
            slots.store_source(forward, number, keys, values)
        context = attend(self._split(inner.query(hidden)), keys, values, forward.source_mask)
        out: Tensor = module.output(context, hidden)
        return out

    def _split(self, states: Tensor) -> Tensor:
        return split_heads(states, self.head_dim)

    def generate(
        self,
        source: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        """Run `generate` on rows with sources (n, length, hidden); nothing is padded."""
        lengths = _source_lengths(source, prompts)
        if min(lengths) < max(lengths):
            raise ValueError("`generate` would attend to the padding of the shorter questions")
        ids = torch.tensor([prompt.start for prompt in prompts], device=source.device)
        output = self.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=source,
            eos_token_id=list(self.eos_ids),
            pad_token_id=self.pad_id,
            **generate_arguments(options, stop, stop_texts, self.suppressed_ids),
        )
        return beam_sequences(self.network, output, ids.shape[1], options)


def _source_lengths(source: Tensor, prompts: Sequence[Prompt]) -> list[int]:
    """Return the lengths of questions, or of images, which all have the length of `source`."""
    return [source.shape[1] if prompt.source is None else len(prompt.source) for prompt in prompts]
