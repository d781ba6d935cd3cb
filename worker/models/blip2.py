"""BLIP-2 with OPT: captions and visual question answering.

Li et al. 2023, https://arxiv.org/abs/2301.12597; checkpoints such as Salesforce/blip2-opt-2.7b.
A row is `queries` image tokens, then what the tokenizer makes of the text; that is the layout of
Blip2Processor with generate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, BlipImageProcessorPil

from worker.engine.slots import SlotCache
from worker.models import LoadError
from worker.models.checkpoint import fingerprint, read_weights, unreadable


def open_checkpoint(
    model: str, config: Any, precision: str, device: torch.device, vqa_template: str
) -> Blip2Opt:
    """Load a directory or hub name whose configuration was read already. Raises LoadError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        # By its own name: where torchvision is installed, the automatic choice resizes otherwise.
        processor = BlipImageProcessorPil.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error
    size, wanted = config.vision_config.image_size, processor.size
    if (wanted["height"], wanted["width"]) != (size, size):
        raise LoadError(
            f"Checkpoint {model!r} contradicts itself: its processor makes images of"
            f" {wanted['height']}x{wanted['width']}, its vision model takes {size}x{size};"
            " correct size in preprocessor_config.json."
        )
    network = read_weights(Blip2ForConditionalGeneration, model, precision, device)
    return Blip2Opt(
        network,
        tokenizer,
        processor,
        name=model,
        revision=fingerprint(network, tokenizer, vqa_template),
        precision=precision,
        vqa_template=vqa_template,
    )


class Blip2Opt:
    """A loaded checkpoint. `network` is a Blip2ForConditionalGeneration in evaluation mode."""

    tasks = frozenset({"caption", "vqa"})

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        processor: Any,
        *,
        name: str,
        revision: str,
        precision: str,
        vqa_template: str,
    ) -> None:
        self.name, self.revision, self.precision = name, revision, precision
        self.network, self.tokenizer, self.vqa_template = network, tokenizer, vqa_template
        self.language_model = network.language_model
        # The parts of the language model, without its wrapper: the head then runs on the last
        # position of each row alone.
        self.decoder = self.language_model.get_decoder()
        self.head = self.language_model.get_output_embeddings()
        self.embed = self.language_model.get_input_embeddings()
        self.device: torch.device = network.device
        self._read_config(network.config)
        self.resample = int(processor.resample)
        self.pixel_table = pixel_table(processor).to(self.device)
        self._known_ids = lru_cache(maxsize=4096)(self._tokenize)

    def _read_config(self, config: Any) -> None:
        text = config.text_config
        self.image_size = int(config.vision_config.image_size)
        self.max_length = int(text.max_position_embeddings)
        self.vocab_size = int(text.vocab_size)
        self.bos_id = int(text.bos_token_id)
        # From the model: an older checkpoint's processor lacks both figures, and then silently
        # leaves the image out.
        self.queries = int(config.num_query_tokens)
        self.image_id = config.image_token_index
        if self.image_id is None:
            self.image_id = self.tokenizer.convert_tokens_to_ids("<image>") or len(self.tokenizer)
        # Of the language model: the generation settings of the whole model do not count.
        generation = self.language_model.generation_config
        self.eos_ids = ids_of(generation.eos_token_id, text.eos_token_id)
        self.suppressed_ids = ids_of(generation.suppress_tokens)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        size = self.image_size
        if pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels are {tuple(pixels.shape[1:])}, not {(size, size, 3)}")
        planes = pixels.to(self.device).permute(3, 0, 1, 2).flatten(1).int()
        pairs = zip(self.pixel_table, planes, strict=True)
        normal = [table.index_select(0, plane) for table, plane in pairs]
        images = torch.stack([plane.view(-1, size, size) for plane in normal], dim=1)
        features: Tensor = self.network.get_image_features(images, return_dict=True).pooler_output
        if len(features) != len(pixels):
            raise RuntimeError(f"{len(pixels)} images gave {len(features)} features")
        return features

    def prompt(self, task: str, text: str) -> list[int]:
        if task == "vqa":
            text = self.vqa_template.replace("{question}", text)
        return [self.image_id] * self.queries + self._text_ids(text)

    def _text_ids(self, text: str) -> list[int]:
        # Short texts come again and again; long ones would only fill the memory.
        return self._known_ids(text) if len(text) <= 256 else self._tokenize(text)

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return [self.bos_id]
        # What a user writes is text, also where it looks like '</s>' or '<image>'.
        ids: list[int] = self.tokenizer(text, split_special_tokens=True).input_ids
        return ids

    def new_slots(self, rows: int) -> SlotCache:
        text = self.network.config.text_config
        heads = int(text.num_attention_heads)
        shape = (int(text.num_hidden_layers), heads, int(text.hidden_size) // heads)
        return SlotCache(shape, rows, self.max_length, self.embed.weight.dtype, self.device)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[list[int]], slots: SlotCache) -> Tensor:
        lengths = [len(prompt) for prompt in prompts]
        width = max(lengths)
        padded = [prompt[self.queries :] + [0] * (width - len(prompt)) for prompt in prompts]
        words = self.embed(torch.tensor(padded, device=self.device))
        positions, mask = slots.begin_prefill(len(prompts), width)
        hidden = self._decoder(
            slots, positions, mask, inputs_embeds=torch.cat([features.to(words.dtype), words], 1)
        )
        last = torch.tensor(lengths, device=self.device) - 1
        logits: Tensor = self.head(hidden[torch.arange(len(prompts), device=self.device), last])
        slots.append(lengths)
        return logits

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        positions, mask = slots.begin_decode(start, stop)
        hidden = self._decoder(slots, positions, mask, input_ids=slots.tokens[start:stop, None])
        logits: Tensor = self.head(hidden[:, 0])
        return logits

    def _decoder(self, slots: SlotCache, positions: Tensor, mask: Tensor, **inputs: Tensor) -> Any:
        # A mask that is ready and positions that are given spare the decoder building its own.
        return self.decoder(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=slots,
            use_cache=True,
        ).last_hidden_state

    def text(self, task: str, prompt: list[int], new: list[int]) -> str:
        # A caption begins with its prompt; an answer never repeats its question.
        ids = new if task == "vqa" else prompt[self.queries :] + new
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()


def pixel_table(processor: Any) -> Tensor:
    """What the processor makes of each value 0..255: float32 (3, 256).

    Asked of the processor itself, so that the table equals it bit for bit, whatever its settings.
    """
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    batch = processor(
        ramp,
        do_resize=False,
        do_convert_rgb=False,
        input_data_format="channels_last",
        return_tensors="pt",
    )
    table: Tensor = batch.pixel_values.reshape(3, 256).float()
    return table


def ids_of(*candidates: int | Sequence[int] | None) -> tuple[int, ...]:
    """The first candidate that is set, as a tuple: configurations write one id or a list."""
    for ids in candidates:
        if ids is not None:
            return (ids,) if isinstance(ids, int) else tuple(ids)
    return ()
