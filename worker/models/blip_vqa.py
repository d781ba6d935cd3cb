"""BLIP's visual question answering: an encoder reads question and image, a decoder answers.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as Salesforce/blip-vqa-base. It
was trained on single questions: no dialogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BlipForQuestionAnswering

from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models import Prompt
from worker.models.blip_text import BlipTextDecoder
from worker.models.checkpoint import fingerprint, read_weights, unreadable
from worker.models.pixels import Pixels, read_processor
from worker.models.texts import Texts
from worker.models.vision import VisionTower


def open_checkpoint(model: str, config: Any, precision: str, device: torch.device) -> BlipVqa:
    """Load a directory or hub name whose configuration was read already. Raises LoadError."""
    processor = read_processor(model, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise unreadable(model, error) from error
    network = read_weights(BlipForQuestionAnswering, model, precision, device)
    return BlipVqa(
        network,
        tokenizer,
        processor,
        name=model,
        revision=fingerprint(network, tokenizer),
        precision=precision,
    )


class BlipVqa:
    """A loaded checkpoint. `network` is a BlipForQuestionAnswering in evaluation mode."""

    tasks = frozenset({"vqa"})

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
        config = network.config
        self.pixels = Pixels(processor, int(config.vision_config.image_size), self.device)
        self.tower = VisionTower(network.vision_model)
        self.image_size, self.resample = self.pixels.image_size, self.pixels.resample
        positions = int(config.text_config.max_position_embeddings)
        self.questions = Texts(tokenizer, positions, self.device)
        self.decoder = BlipTextDecoder(network.text_decoder, source_limit=positions)
        self.max_length, self.vocab_size = self.decoder.max_length, self.decoder.vocab_size
        self.eos_ids, self.suppressed_ids = self.decoder.eos_ids, self.decoder.suppressed_ids

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (n, 1 + patches, hidden of the vision model)."""
        return self.tower(self.pixels(pixels))

    def prompt(self, request: Request) -> Prompt:
        return Prompt([self.decoder.bos_id], source=self.questions.tokens(request.text))

    def new_slots(self, rows: int) -> SlotCache:
        return self.decoder.new_slots(rows)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        states, lengths = self._read(features, prompts)
        return self.decoder.prefill(states, lengths, prompts, slots)

    def _read(self, features: Tensor, prompts: Sequence[Prompt]) -> tuple[Tensor, list[int]]:
        """States (n, longest, hidden) of questions about images, padded on the right; lengths."""
        questions = [prompt.source or [] for prompt in prompts]
        ids, mask = self.questions.batch(questions)
        states: Tensor = self.network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=features
        ).last_hidden_state
        return states, [len(question) for question in questions]

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        return self.decoder.decode(slots, start, stop)

    @torch.inference_mode()
    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        states, lengths = self._read(features, prompts)
        if min(lengths) < max(lengths):
            raise ValueError("`generate` would let the shorter questions see their padding")
        return self.decoder.generate(states, prompts, options, stop)

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        text: str = self.tokenizer.decode(new, skip_special_tokens=True)
        return text.strip()
