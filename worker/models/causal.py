"""Decoder-only language models of BLIP-2 and InstructBLIP: image tokens, then a text to continue.

The forward passes of the families are reimplemented with transformers' own modules, so that keys
and values are stored in slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from worker.engine.model import Prompt, StopTexts, TokenSequence
from worker.engine.request import GenerationOptions
from worker.engine.slots import ForwardPass, SlotCache
from worker.models.generation import beam_sequences, decode_text, generate_arguments, token_ids


class CausalLanguage(ABC):
    """A causal language model of transformers; a row begins with `queries` image tokens."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        image_id: int,
        queries: int,
        kv_shape: tuple[int, int, int],
    ) -> None:
        config = network.config
        self.network, self.tokenizer = network, tokenizer
        self.image_id, self.queries = image_id, queries
        #: Layers, heads of keys and values, and the width of a head.
        self.kv_shape = kv_shape
        self.decoder = network.get_decoder()
        self.embed, self.head = network.get_input_embeddings(), network.get_output_embeddings()
        positions = int(config.max_position_embeddings)
        self.max_length = positions + 1  # the last token of a row needs no position
        self.vocab_size = int(config.vocab_size)
        # From the language model: `generate` ignores the outer model's generation settings.
        generation = network.generation_config
        self.eos_ids = token_ids(generation.eos_token_id, config.eos_token_id)
        self.suppressed_ids = token_ids(generation.suppress_tokens)
        self.bos_id = int(config.bos_token_id)
        self._cached_ids = lru_cache(maxsize=4096)(self._tokenize)

    @abstractmethod
    def run_decoder(
        self, inputs: Tensor, slots: SlotCache, forward: ForwardPass, last: Tensor | None = None
    ) -> Tensor:
        """Return states (rows, new, hidden), or (rows, 1, hidden) at positions `last` (rows,)."""

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
        weight = self.embed.weight
        return SlotCache(self.kv_shape, rows, self.max_length - 1, weight.dtype, weight.device)

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
        hidden = self.run_decoder(inputs, slots, forward, last)
        logits: Tensor = self.head(hidden[:, 0])
        slots.append(lengths)
        return logits

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        inputs = self.embed(slots.tokens[start:stop, None])
        hidden = self.run_decoder(inputs, slots, slots.begin_decode(start, stop))
        logits: Tensor = self.head(hidden[:, 0])
        return logits

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
