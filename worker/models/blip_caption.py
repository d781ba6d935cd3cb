"""BLIP captioning: a text decoder that looks at the image and goes on from a few words or none.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as
Salesforce/blip-image-captioning-base and -large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BlipForConditionalGeneration

from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models import Prompt
from worker.models.blip_text import BlipTextDecoder
from worker.models.checkpoint import fingerprint, read_weights, unreadable
from worker.models.pixels import Pixels, read_processor
from worker.models.texts import Texts
from worker.models.vision import VisionTower


def open_checkpoint(model: str, config: Any, precision: str, device: torch.device) -> BlipCaption:
    """Load a directory or hub name whose configuration was read already. Raises LoadError."""
    processor = read_processor(model, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error
    network = read_weights(BlipForConditionalGeneration, model, precision, device)
    return BlipCaption(
        network,
        tokenizer,
        processor,
        name=model,
        revision=fingerprint(network, tokenizer),
        precision=precision,
    )


class BlipCaption:
    """A loaded checkpoint. `network` is a BlipForConditionalGeneration in evaluation mode."""

    tasks = frozenset({"caption"})

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        processor: Any,
        *,
        name: str,
        revision: str,
        precision: str,
    ) -> None:
        self.name, self.revision, self.precision = name, revision, precision
        self.network, self.tokenizer = network, tokenizer
        self.device: torch.device = network.device
        vision = network.vision_model
        self.pixels = Pixels(processor, int(network.config.vision_config.image_size), self.device)
        self.tower = VisionTower(network.vision_model)
        self.image_size, self.resample = self.pixels.image_size, self.pixels.resample
        self.decoder = BlipTextDecoder(
            network.text_decoder, source_limit=int(vision.embeddings.num_positions)
        )
        self.texts = Texts(tokenizer, self.decoder.max_length, self.device)
        self.max_length, self.vocab_size = self.decoder.max_length, self.decoder.vocab_size
        self.eos_ids, self.suppressed_ids = self.decoder.eos_ids, self.decoder.suppressed_ids

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (n, 1 + patches, hidden of the vision model)."""
        return self.tower(self.pixels(pixels))

    def prompt(self, request: Request) -> Prompt:
        # As BLIP's own `generate` makes it of the processor's tokens: its begin of text instead of
        # [CLS], and no [SEP].
        return Prompt([self.decoder.bos_id, *self.texts.tokens(request.text)[1:-1]])

    def new_slots(self, rows: int) -> SlotCache:
        return self.decoder.new_slots(rows)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        # Every image has the same number of tokens: no padding, no mask.
        lengths = [features.shape[1]] * len(prompts)
        return self.decoder.prefill(features, lengths, prompts, slots)

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        return self.decoder.decode(slots, start, stop)

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        return self.decoder.generate(features, prompts, options, stop)

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        # A caption begins with its prompt. BLIP's begin of text lies outside BERT's vocabulary and
        # so has no words.
        text: str = self.tokenizer.decode(prompt.start + new, skip_special_tokens=True)
        return text.strip()
