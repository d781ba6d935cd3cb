"""T5 after an image: an encoder reads image tokens and text, a decoder writes the answer.

Raffel et al. 2019, https://arxiv.org/abs/1910.10683; Flan-T5: https://arxiv.org/abs/2210.11416. The
decoder is written out over the modules of transformers' T5ForConditionalGeneration, so that keys
and values lie in slots; the encoder is transformers' own.
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
from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions
from worker.engine.slots import Pass, SlotCache
from worker.models.attention import attend, split_heads
from worker.models.generation import arguments, ids_of, new_tokens

#: Tokens that the encoder reads where neither configuration nor tokenizer says: what T5 was trained
#: with. Its relative positions themselves have no end.
READ_TOKENS = 512
#: A tokenizer that knows no limit says 10**30.
NO_LIMIT = 10**6
#: Tokens that the decoder may hold: the longest answer a request can ask for and the start token.
#: From a distance of 128 on all positions look alike to it, so nothing in the model sets a limit.
WRITTEN_TOKENS = 1024 + 1
#: Where transformers cuts infinities in fp16, except that it does not depend on the neighbours.
FP16_BOUND = torch.finfo(torch.float16).max - 1000


class T5Language:
    """`network` is a T5ForConditionalGeneration; `queries` image tokens begin what it reads."""

    def __init__(self, network: Any, tokenizer: Any, image_id: int, queries: int) -> None:
        config, generation = network.config, network.generation_config
        self.network, self.tokenizer = network, tokenizer
        self.image_id, self.queries = image_id, queries
        self.encoder, self.decoder = network.get_encoder(), network.get_decoder()
        self.blocks = list(self.decoder.block)
        self.embed, self.head = network.get_input_embeddings(), network.get_output_embeddings()
        self.heads, self.head_dim = int(config.num_heads), int(config.d_kv)
        # The first T5 scales what goes into its head; T5 1.1, and so Flan-T5, does not.
        self.head_scale = config.d_model**-0.5 if config.scale_decoder_outputs else None
        self.max_length, self.source_limit = WRITTEN_TOKENS, read_limit(config, tokenizer)
        self.vocab_size = int(config.vocab_size)
        # Of the language model: the generation settings of the whole model do not count.
        self.eos_ids = ids_of(generation.eos_token_id, config.eos_token_id)
        self.suppressed_ids = ids_of(generation.suppress_tokens)
        self.bos_ids = ids_of(config.bos_token_id)
        starts = (generation.decoder_start_token_id, generation.bos_token_id, config.pad_token_id)
        self.start_id = ids_of(*starts)[0]
        self.bias = distance_bias(self.blocks[0].layer[0].SelfAttention, self.max_length)
        self._plain = without_control_tokens(tokenizer)
        self._known_ids = lru_cache(maxsize=4096)(self._tokenize)

    def room(self, new: int) -> int:
        """Tokens that a text may have. What is to follow has a place of its own."""
        return self.source_limit - self.queries

    def prompt(self, text: str) -> Prompt:
        """The layout of Blip2Processor with `generate`: image tokens, text, end of text.

        Raises PromptTooLong.
        """
        ids, room = self.text_ids(text), self.room(0)
        if len(ids) > room:
            raise PromptTooLong(
                f"The text has {len(ids)} tokens, more than the {room} that the model reads beside"
                " the image."
            )
        source = [self.image_id] * self.queries + ids
        return Prompt([self.start_id], source=source, words=text.strip())

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text. Raises ValueError if it is no Unicode."""
        # Short texts come again and again; long ones would only fill the memory.
        return self._known_ids(text) if len(text) <= 256 else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        if not text and self.bos_ids:
            return list(self.bos_ids)
        ids: list[int] = self._plain.encode(text).ids
        return ids

    def new_slots(self, rows: int) -> SlotCache:
        shape = (len(self.blocks), self.heads, self.head_dim)
        weight = self.embed.weight
        return SlotCache(
            shape, rows, self.max_length, weight.dtype, weight.device, self.source_limit
        )

    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        lengths = [len(prompt.start) for prompt in prompts]
        sources = [len(prompt.source or ()) for prompt in prompts]
        at = slots.begin_prefill(lengths, sources)
        words, mask = self._source(features, prompts)
        padding = mask if len(set(sources)) > 1 else None
        read = self.encoder(inputs_embeds=words, attention_mask=padding).last_hidden_state
        self._store_source(read, slots, at)
        padded = [prompt.start + [0] * (at.width - len(prompt.start)) for prompt in prompts]
        starts = self.embed(torch.tensor(padded, device=features.device))
        hidden = self._decoder(starts, slots, at)
        last = torch.tensor(lengths, device=features.device) - 1
        rows = torch.arange(len(prompts), device=features.device)
        logits: Tensor = self.head(hidden[rows, last])
        slots.append(lengths, sources)
        return logits

    def _source(self, features: Tensor, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """What the encoder reads (n, longest, hidden), padded on the right, and its mask."""
        texts = [(prompt.source or [])[self.queries :] for prompt in prompts]
        width, device = max(map(len, texts)), features.device
        padded = [text + [0] * (width - len(text)) for text in texts]
        words = self.embed(torch.tensor(padded, device=device))
        ends = torch.tensor([self.queries + len(text) for text in texts], device=device)
        mask = torch.arange(self.queries + width, device=device) < ends[:, None]
        return torch.cat([features.to(words.dtype), words], 1), mask.long()

    def _store_source(self, read: Tensor, slots: SlotCache, at: Pass) -> None:
        for number, block in enumerate(self.blocks):
            module = block.layer[1].EncDecAttention
            keys = split_heads(module.k(read), self.head_dim)
            slots.store_source(at, number, keys, split_heads(module.v(read), self.head_dim))

    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        words = self.embed(slots.tokens[start:stop, None])
        hidden = self._decoder(words, slots, slots.begin_decode(start, stop))
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def _decoder(self, hidden: Tensor, slots: SlotCache, at: Pass) -> Tensor:
        """What goes into the head: (rows, new, hidden)."""
        bias = self._bias(at)
        for number, block in enumerate(self.blocks):
            hidden = bounded(hidden + self._look_back(number, block, hidden, bias, slots, at))
            hidden = bounded(hidden + self._look_at_source(number, block, hidden, slots, at))
            hidden = bounded(block.layer[-1](hidden))  # adds to what comes in by itself
        hidden = self.decoder.final_layer_norm(hidden)
        return hidden if self.head_scale is None else hidden * self.head_scale

    def _bias(self, at: Pass) -> Tensor:
        """What is added to scores: how far back each position lies, -inf where none may look."""
        places = torch.arange(at.width, device=at.positions.device)
        distances = (at.positions[..., None] - places).clamp_(min=0)
        return self.bias[:, distances].transpose(0, 1) + at.mask

    def _look_back(
        self, number: int, block: Any, hidden: Tensor, bias: Tensor, slots: SlotCache, at: Pass
    ) -> Tensor:
        module, inner = block.layer[0].SelfAttention, block.layer[0].layer_norm(hidden)
        queries = split_heads(module.q(inner), self.head_dim)
        keys = split_heads(module.k(inner), self.head_dim)
        values = split_heads(module.v(inner), self.head_dim)
        keys, values = slots.store(at, number, keys, values)
        out: Tensor = module.o(attend(queries, keys, values, bias, scale=1.0))
        return out

    def _look_at_source(
        self, number: int, block: Any, hidden: Tensor, slots: SlotCache, at: Pass
    ) -> Tensor:
        module, inner = block.layer[1].EncDecAttention, block.layer[1].layer_norm(hidden)
        queries = split_heads(module.q(inner), self.head_dim)
        keys, values = slots.source(at, number)
        out: Tensor = module.o(attend(queries, keys, values, at.source_mask, scale=1.0))
        return out

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        words, mask = self._source(features, prompts)
        rows = self.network.generate(
            inputs_embeds=words, attention_mask=mask, **arguments(options, stop)
        )
        return new_tokens(rows[:, 1:], self.eos_ids)  # the start token is generate's own

    def text(self, prompt: Prompt, new: list[int], whole: bool) -> str:
        """The words of a row; `whole` with what its prompt says."""
        said: str = self.tokenizer.decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ).strip()
        return begun_with(prompt.words, said) if whole else said


def read_limit(config: Any, tokenizer: Any) -> int:
    """Tokens that the encoder may read, image included."""
    said = (getattr(config, "n_positions", None), tokenizer.model_max_length)
    return min((int(one) for one in said if one and one < NO_LIMIT), default=READ_TOKENS)


@torch.no_grad()
def distance_bias(module: Any, length: int) -> Tensor:
    """What T5 adds to a score by how far back the position lies: (heads, length).

    `module` is the decoder's first self-attention; all layers share its numbers.
    """
    last: Tensor = module.compute_bias(1, length, past_seen_tokens=length - 1)
    return last[0, :, 0].flip(-1).contiguous()


def bounded(hidden: Tensor) -> Tensor:
    """T5 overflows in fp16: infinities become large numbers, as in transformers."""
    if hidden.dtype != torch.float16:
        return hidden
    return hidden.clamp(-FP16_BOUND, FP16_BOUND)


def without_control_tokens(tokenizer: Any) -> Tokenizer:
    """The same tokenizer for what users write, where '</s>' is four characters.

    No option of transformers gives that: a Unigram also has its control tokens among the pieces
    that it looks for in a text, at the best of all scores.
    """
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    control = [token["id"] for token in written["added_tokens"]]
    written["added_tokens"] = []
    model = written["model"]
    if model["type"] == "Unigram":
        for number in control:
            if number < len(model["vocab"]):
                # Texts are split at spaces before pieces are looked for, so this is in none.
                model["vocab"][number][0] = f" {number}"
    plain: Tokenizer = Tokenizer.from_str(json.dumps(written))
    # Settings of whoever saved the tokenizer; transformers resets them at each call.
    plain.no_padding()
    plain.no_truncation()
    return plain


def begun_with(words: str, said: str) -> str:
    """A text that begins with `words`, whether or not `said` repeats them."""
    rest = said[len(words) :]
    if said[: len(words)].lower() == words.lower() and not rest[:1].isalnum():
        return words + rest
    return f"{words} {said}".strip()
