"""T5 as BLIP-2's language model: an encoder reads image tokens and text, a decoder answers.

Raffel et al. 2019, https://arxiv.org/abs/1910.10683; Flan-T5: https://arxiv.org/abs/2210.11416. The
decoder is reimplemented with the modules of transformers' T5ForConditionalGeneration, so that keys
and values are stored in slots; the encoder is transformers' own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from worker.engine.errors import PromptTooLong
from worker.engine.model import Prompt, StopTexts, TokenSequence
from worker.engine.request import GenerationOptions
from worker.engine.slots import ForwardPass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.generation import beam_sequences, decode_text, generate_arguments, token_ids

#: Encoder tokens if neither configuration nor tokenizer sets a limit: as in T5's training. Its
#: relative positions have no limit.
DEFAULT_ENCODER_TOKENS = 512
#: A tokenizer without a limit reports 10**30.
NO_LIMIT = 10**6
#: Decoder tokens: the longest answer of a request, and the start token. All distances from 128 on
#: share a bias, so the model itself sets no limit.
DECODER_TOKENS = 1024 + 1
#: Bound of activations in fp16, as in transformers, but applied independently of other rows.
FP16_BOUND = torch.finfo(torch.float16).max - 1000


class T5Language:
    """The language model of a T5ForConditionalGeneration; sources begin with image tokens."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        config, generation = network.config, network.generation_config
        self.network, self.tokenizer = network, tokenizer
        self.image_id, self.queries = image_id, queries
        self.encoder, self.decoder = network.get_encoder(), network.get_decoder()
        self.blocks = list(self.decoder.block)
        self.embed, self.head = network.get_input_embeddings(), network.get_output_embeddings()
        self.heads, self.head_dim = int(config.num_heads), int(config.d_kv)
        # The first T5 scales the input of its head; T5 1.1, and so Flan-T5, does not.
        self.head_scale = config.d_model**-0.5 if config.scale_decoder_outputs else None
        self.max_length, self.source_limit = DECODER_TOKENS, encoder_limit(config, tokenizer)
        self.vocab_size = int(config.vocab_size)
        # From the language model: `generate` ignores the outer model's generation settings.
        self.eos_ids = token_ids(generation.eos_token_id, config.eos_token_id)
        self.suppressed_ids = token_ids(generation.suppress_tokens)
        self.bos_ids = token_ids(config.bos_token_id)
        starts = (generation.decoder_start_token_id, generation.bos_token_id, config.pad_token_id)
        self.start_id = token_ids(*starts)[0]
        self.bias = distance_bias(self.blocks[0].layer[0].SelfAttention, self.max_length - 1)
        self._text_tokenizer = without_control_tokens(tokenizer)
        self._cached_ids = lru_cache(maxsize=4096)(self._tokenize)

    def text_limit(self, new: int) -> int:
        """Return the maximum tokens of a text; new tokens go to the decoder and take none."""
        return self.source_limit - self.queries

    def prompt(self, text: str) -> Prompt:
        """Build a prompt as Blip2Processor does: image tokens, text, end of text.

        Raises PromptTooLong.
        """
        ids, limit = self.text_ids(text), self.text_limit(0)
        if len(ids) > limit:
            raise PromptTooLong(
                f"The text has {len(ids)} tokens; the limit in addition to the image is {limit}."
            )
        source = [self.image_id] * self.queries + ids
        return Prompt([self.start_id], source=source, text=text.strip())

    def text_ids(self, text: str) -> list[int]:
        """Return a text's token ids. Raises ValueError for invalid Unicode."""
        # Only short texts repeat often enough to be worth their memory.
        return self._cached_ids(text) if len(text) <= 256 else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        if not text and self.bos_ids:
            return list(self.bos_ids)
        ids: list[int] = self._text_tokenizer.encode(text).ids
        return ids

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.blocks), self.heads, self.head_dim)
        weight = self.embed.weight
        return SlotCache(
            shape, rows, self.max_length - 1, weight.dtype, weight.device, self.source_limit
        )

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        lengths = [len(prompt.start) for prompt in prompts]
        sources = [len(prompt.source or ()) for prompt in prompts]
        forward = slots.begin_prefill(lengths, sources)
        inputs, mask = self._encoder_inputs(features, prompts)
        padding = mask if len(set(sources)) > 1 else None
        states = self.encoder(inputs_embeds=inputs, attention_mask=padding).last_hidden_state
        self._store_source(states, slots, forward)
        padded = [prompt.start + [0] * (forward.width - len(prompt.start)) for prompt in prompts]
        starts = self.embed(torch.tensor(padded, device=features.device))
        hidden = self._decoder(starts, slots, forward)
        last = torch.tensor(lengths, device=features.device) - 1
        rows = torch.arange(len(prompts), device=features.device)
        logits: Tensor = self.head(hidden[rows, last])
        slots.append(lengths, sources)
        return logits

    def _encoder_inputs(self, features: Tensor, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Return embeddings (n, longest, hidden), padded on the right, and their mask."""
        texts = [(prompt.source or [])[self.queries :] for prompt in prompts]
        width, device = max(map(len, texts)), features.device
        padded = [text + [0] * (width - len(text)) for text in texts]
        embedded = self.embed(torch.tensor(padded, device=device))
        ends = torch.tensor([self.queries + len(text) for text in texts], device=device)
        mask = torch.arange(self.queries + width, device=device) < ends[:, None]
        return torch.cat([features.to(embedded.dtype), embedded], 1), mask.long()

    def _store_source(self, states: Tensor, slots: SlotCache, forward: ForwardPass) -> None:
        for number, block in enumerate(self.blocks):
            module = block.layer[1].EncDecAttention
            keys = split_heads(module.k(states), self.head_dim)
            values = split_heads(module.v(states), self.head_dim)
            slots.store_source(forward, number, keys, values)

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        inputs = self.embed(slots.tokens[start:stop, None])
        hidden = self._decoder(inputs, slots, slots.begin_decode(start, stop))
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def _decoder(self, hidden: Tensor, slots: SlotCache, forward: ForwardPass) -> Tensor:
        """Return the input of the head: (rows, new, hidden)."""
        bias = self._bias(forward)
        for number, block in enumerate(self.blocks):
            attended = self._self_attention(number, block, hidden, bias, slots, forward)
            hidden = clamp_fp16(hidden + attended)
            attended = self._cross_attention(number, block, hidden, slots, forward)
            hidden = clamp_fp16(hidden + attended)
            hidden = clamp_fp16(block.layer[-1](hidden))  # the layer adds its own residual
        hidden = self.decoder.final_layer_norm(hidden)
        return hidden if self.head_scale is None else hidden * self.head_scale

    def _bias(self, forward: ForwardPass) -> Tensor:
        """Return the terms added to scores: the relative position bias and the causal mask."""
        columns = torch.arange(forward.width, device=forward.positions.device)
        distances = (forward.positions[..., None] - columns).clamp_(min=0)
        return self.bias[:, distances].transpose(0, 1) + forward.mask

    def _self_attention(
        self,
        number: int,
        block: Any,
        hidden: Tensor,
        bias: Tensor,
        slots: SlotCache,
        forward: ForwardPass,
    ) -> Tensor:
        module, inner = block.layer[0].SelfAttention, block.layer[0].layer_norm(hidden)
        queries = split_heads(module.q(inner), self.head_dim)
        keys = split_heads(module.k(inner), self.head_dim)
        values = split_heads(module.v(inner), self.head_dim)
        keys, values = slots.store(forward, number, keys, values)
        out: Tensor = module.o(attend(queries, keys, values, bias, scale=1.0))
        return out

    def _cross_attention(
        self, number: int, block: Any, hidden: Tensor, slots: SlotCache, forward: ForwardPass
    ) -> Tensor:
        module, inner = block.layer[1].EncDecAttention, block.layer[1].layer_norm(hidden)
        queries = split_heads(module.q(inner), self.head_dim)
        keys, values = slots.source(forward, number)
        out: Tensor = module.o(attend(queries, keys, values, forward.source_mask, scale=1.0))
        return out

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        inputs, mask = self._encoder_inputs(features, prompts)
        output = self.network.generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            **generate_arguments(options, stop, stop_texts, self.suppressed_ids),
        )
        # `generate` adds the start token.
        return beam_sequences(self.network, output, 1, options)

    def text(self, prompt: Prompt, new: list[int], with_prompt: bool) -> str:
        """Return new tokens as text, after the prompt's text if `with_prompt`."""
        text = decode_text(self.tokenizer, new)
        return with_prefix(prompt.text, text) if with_prompt else text


def encoder_limit(config: Any, tokenizer: Any) -> int:
    """Return the maximum tokens that the encoder reads, image included."""
    limits = (getattr(config, "n_positions", None), tokenizer.model_max_length)
    return min(
        (int(limit) for limit in limits if limit and limit < NO_LIMIT),
        default=DEFAULT_ENCODER_TOKENS,
    )


@torch.no_grad()
def distance_bias(module: Any, length: int) -> Tensor:
    """Return the relative position bias of each distance back: (heads, length).

    `module` is the decoder's first self-attention; all layers share its bias.
    """
    last: Tensor = module.compute_bias(1, length, past_seen_tokens=length - 1)
    return last[0, :, 0].flip(-1).contiguous()


def clamp_fp16(hidden: Tensor) -> Tensor:
    """Bound activations in fp16, in which T5 overflows, as transformers does."""
    if hidden.dtype != torch.float16:
        return hidden
    return hidden.clamp(-FP16_BOUND, FP16_BOUND)


def without_control_tokens(tokenizer: Any) -> Tokenizer:
    """Copy a tokenizer without its control tokens: in a user's text '</s>' is four characters.

    No option of transformers does this: a Unigram also has its control tokens among the pieces of a
    text, with the best of all scores.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    control_ids = [token["id"] for token in settings["added_tokens"]]
    settings["added_tokens"] = []
    model = settings["model"]
    if model["type"] == "Unigram":
        for token_id in control_ids:
            if token_id < len(model["vocab"]):
                # No text has such a piece: texts are split at spaces first.
                model["vocab"][token_id][0] = f" {token_id}"
    copy: Tokenizer = Tokenizer.from_str(json.dumps(settings))
    # Saved with the tokenizer; transformers resets both at each call.
    copy.no_padding()
    copy.no_truncation()
    return copy


def with_prefix(prefix: str, text: str) -> str:
    """Return a text that begins with `prefix`, whether or not `text` repeats it."""
    rest = text[len(prefix) :]
    if text[: len(prefix)].lower() == prefix.lower() and not rest[:1].isalnum():
        return prefix + rest
    return f"{prefix} {text}".strip()
