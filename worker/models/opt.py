"""OPT as BLIP-2's language model: one decoder reads image tokens and text and continues them.

Zhang et al. 2022, https://arxiv.org/abs/2205.01068. The forward pass is reimplemented with
the modules of transformers' OPTForCausalLM, so that keys and values are stored in slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from worker.engine.model import Prompt, StopTexts, TokenSequence
from worker.engine.request import GenerationOptions
from worker.engine.slots import ForwardPass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.fused import as_function, fuse_linears
from worker.models.generation import beam_sequences, decode_text, generate_arguments, token_ids

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


class OptLanguage:
    """The language model of an OPTForCausalLM; a row begins with `queries` image tokens."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        config = network.config
        self.network, self.tokenizer = network, tokenizer
        self.image_id, self.queries = image_id, queries
        decoder = network.get_decoder()
        self.layers, self.decoder = [OptLayer(layer) for layer in decoder.layers], decoder
        self.embed, self.head = network.get_input_embeddings(), network.get_output_embeddings()
        self.position_embeddings = decoder.embed_positions.weight
        self.heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // self.heads
        self.norm_first = bool(config.do_layer_norm_before)
        positions = int(config.max_position_embeddings)
        self.max_length = positions + 1  # the last token of a row needs no position
        self.vocab_size = int(config.vocab_size)
        # From the language model: `generate` ignores the outer model's generation settings.
        generation = network.generation_config
        self.eos_ids = token_ids(generation.eos_token_id, config.eos_token_id)
        self.suppressed_ids = token_ids(generation.suppress_tokens)
        self.bos_id = int(config.bos_token_id)
        self._cached_ids = lru_cache(maxsize=4096)(self._tokenize)

    def text_limit(self, new: int) -> int:
        """Return the maximum tokens of a text that is followed by `new` tokens."""
        return self.max_length - self.queries - new

    def prompt(self, text: str) -> Prompt:
        """Build a prompt as Blip2Processor does: image tokens, begin of text, text."""
        return Prompt([self.image_id] * self.queries + self.text_ids(text))

    def text_ids(self, text: str) -> list[int]:
        """Return a text's token ids. Raises ValueError for invalid Unicode."""
        # Only short texts repeat often enough to be worth their memory.
        return self._cached_ids(text) if len(text) <= 256 else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return [self.bos_id]
        # A user's text is never a control token, even if it reads '</s>' or '<image>'.
        ids: list[int] = self.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
        return ids

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.layers), self.heads, self.head_dim)
        weight = self.embed.weight
        return SlotCache(shape, rows, self.max_length - 1, weight.dtype, weight.device)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        lengths = [len(prompt.start) for prompt in prompts]
        forward = slots.begin_prefill(lengths)
        device = features.device
        padded = [
            prompt.start[self.queries :] + [0] * (forward.width - len(prompt.start))
            for prompt in prompts
        ]
        text = self.embed(torch.tensor(padded, device=device))
        inputs = torch.cat([features.to(text.dtype), text], 1)
        last = torch.tensor(lengths, device=device) - 1
        hidden = self._decoder(inputs, slots, forward, last)
        logits: Tensor = self.head(hidden[:, 0])
        slots.append(lengths)
        return logits

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        inputs = self.embed(slots.tokens[start:stop, None])
        hidden = self._decoder(inputs, slots, slots.begin_decode(start, stop))
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def _decoder(
        self, inputs: Tensor, slots: SlotCache, forward: ForwardPass, last: Tensor | None = None
    ) -> Tensor:
        """Return states (rows, new, hidden), or (rows, 1, hidden) at positions `last` (rows,)."""
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

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        ids = torch.tensor([prompt.start for prompt in prompts], device=features.device)
        text = self.embed(ids[:, self.queries :])
        output = self.network.generate(
            # With the ids, penalties count image tokens and prompt, as in the sampler.
            input_ids=ids,
            inputs_embeds=torch.cat([features.to(text.dtype), text], 1),
            attention_mask=torch.ones_like(ids),
            **generate_arguments(options, stop, stop_texts, self.suppressed_ids),
        )
        return beam_sequences(self.network, output, ids.shape[1], options)

    def text(self, prompt: Prompt, new: list[int], with_prompt: bool) -> str:
        """Return new tokens as text, after the prompt's text if `with_prompt`."""
        ids = prompt.start[self.queries :] + new if with_prompt else new
        return decode_text(self.tokenizer, ids)
