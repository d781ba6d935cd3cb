"""BLIP captioning: a text decoder that looks at the image and goes on from a few words or none.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as
Salesforce/blip-image-captioning-base and -large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import BlipForConditionalGeneration

from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models.blip_text import BlipTextDecoder
from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class BlipCaption(VisionModel):
    """A loaded checkpoint. `network` is a BlipForConditionalGeneration in evaluation mode."""

    network_class = BlipForConditionalGeneration
    tasks = frozenset({"caption"})

    def __init__(self, parts: Checkpoint) -> None:
        super().__init__(parts)
        image_tokens = int(self.network.vision_model.embeddings.num_positions)
        self.decoder = BlipTextDecoder(self.network.text_decoder, source_limit=image_tokens)
        self.texts = TextTokenizer(self.tokenizer, self.decoder.max_length, self.device)
        self.max_length, self.vocab_size = self.decoder.max_length, self.decoder.vocab_size
        self.eos_ids, self.suppressed_ids = self.decoder.eos_ids, self.decoder.suppressed_ids

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
