"""OPT after an image: the row is image tokens, then text, and one decoder reads and writes it.

Zhang et al. 2022, https://arxiv.org/abs/2205.01068. The forward pass is written out over the
modules of transformers' OPTForCausalLM, so that keys and values lie in slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions
from worker.engine.slots import Pass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.fused import as_function, fuse_linears
from worker.models.generation import arguments, ids_of, new_tokens

#: Tokens read ahead of a text's own: OPT's position embeddings begin at the third.
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


class OptLanguage:
    """`network` is an OPTForCausalLM in evaluation mode; `queries` image tokens begin a row."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        config = network.config
        self.network, self.tokenizer = network, tokenizer
        self.image_id, self.queries = image_id, queries
        decoder = network.get_decoder()
        self.layers, self.decoder = [OptLayer(one) for one in decoder.layers], decoder
        self.embed, self.head = network.get_input_embeddings(), network.get_output_embeddings()
        self.places = decoder.embed_positions.weight
        self.heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // self.heads
        self.norm_first = bool(config.do_layer_norm_before)
        self.max_length = int(config.max_position_embeddings)
        self.vocab_size = int(config.vocab_size)
        # Of the language model: the generation settings of the whole model do not count.
        generation = network.generation_config
        self.eos_ids = ids_of(generation.eos_token_id, config.eos_token_id)
        self.suppressed_ids = ids_of(generation.suppress_tokens)
        self.bos_id = int(config.bos_token_id)
        self._known_ids = lru_cache(maxsize=4096)(self._tokenize)

    def room(self, new: int) -> int:
        """Tokens that a text may have, where `new` are to follow."""
        return self.max_length - self.queries - new

    def prompt(self, text: str) -> Prompt:
        """The layout of Blip2Processor with `generate`: image tokens, begin of text, text."""
        return Prompt([self.image_id] * self.queries + self.text_ids(text))

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text. Raises ValueError if it is no Unicode."""
        # Short texts come again and again; long ones would only fill the memory.
        return self._known_ids(text) if len(text) <= 256 else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return [self.bos_id]
        # What a user writes is text, also where it looks like '</s>' or '<image>'.
        ids: list[int] = self.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
        return ids

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.layers), self.heads, self.head_dim)
        weight = self.embed.weight
        return SlotCache(shape, rows, self.max_length, weight.dtype, weight.device)

    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        lengths = [len(prompt.start) for prompt in prompts]
        at = slots.begin_prefill(lengths)
        device = features.device
        padded = [one.start[self.queries :] + [0] * (at.width - len(one.start)) for one in prompts]
        words = self.embed(torch.tensor(padded, device=device))
        last = torch.tensor(lengths, device=device) - 1
        hidden = self._decoder(torch.cat([features.to(words.dtype), words], 1), slots, at, last)
        logits: Tensor = self.head(hidden[:, 0])
        slots.append(lengths)
        return logits

    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        words = self.embed(slots.tokens[start:stop, None])
        hidden = self._decoder(words, slots, slots.begin_decode(start, stop))
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def _decoder(
        self, words: Tensor, slots: SlotCache, at: Pass, last: Tensor | None = None
    ) -> Tensor:
        """States (rows, new, hidden), or (rows, 1, hidden) at the positions `last` (rows,)."""
        decoder, end = self.decoder, len(self.layers) - 1
        if decoder.project_in is not None:
            words = decoder.project_in(words)
        hidden = words + torch.nn.functional.embedding(at.positions + POSITION_OFFSET, self.places)
        for number, layer in enumerate(self.layers):
            hidden = self._layer(number, layer, hidden, slots, at, last if number == end else None)
        if decoder.final_layer_norm is not None:
            hidden = decoder.final_layer_norm(hidden)
        wide = decoder.project_out is not None
        out: Tensor = decoder.project_out(hidden) if wide else hidden
        return out

    def _layer(
        self,
        number: int,
        layer: OptLayer,
        hidden: Tensor,
        slots: SlotCache,
        at: Pass,
        last: Tensor | None,
    ) -> Tensor:
        first = self.norm_first  # all but the 350m checkpoint
        inner = layer.norm1(hidden) if first else hidden
        queries, keys, values = (
            split_heads(one, self.head_dim) for one in layer.queries_keys_values(inner)
        )
        keys, values = slots.store(at, number, keys, values)
        mask = at.mask
        if last is not None:
            # Of the other positions nothing reads more than keys and values.
            each = torch.arange(len(last), device=last.device)
            hidden, queries = hidden[each, last][:, None], queries[each, last][:, None]
            mask = mask[0, 0].index_select(0, last)[:, None, None]
        # In OPT's own order: the query is scaled before the product, not the product.
        seen = attend(queries * layer.scaling, keys, values, mask, scale=1.0)
        hidden = hidden + layer.out(seen)
        hidden = hidden if first else layer.norm1(hidden)
        inner = layer.norm2(hidden) if first else hidden
        hidden = hidden + layer.fc2(layer.activation(layer.fc1(inner)))
        return hidden if first else layer.norm2(hidden)

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        ids = torch.tensor([prompt.start for prompt in prompts], device=features.device)
        words = self.embed(ids[:, self.queries :])
        rows = self.network.generate(
            # With the ids, penalties count image tokens and prompt, as they do for a whole row.
            input_ids=ids,
            inputs_embeds=torch.cat([features.to(words.dtype), words], 1),
            attention_mask=torch.ones_like(ids),
            **arguments(options, stop),
        )
        return new_tokens(rows[:, ids.shape[1] :], self.eos_ids)

    def text(self, prompt: Prompt, new: list[int], whole: bool) -> str:
        """The words of a row; `whole` with what its prompt says."""
        ids = prompt.start[self.queries :] + new if whole else new
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()
