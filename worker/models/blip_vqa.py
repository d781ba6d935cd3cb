"""BLIP's visual question answering: an encoder reads question and image, a decoder answers.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as Salesforce/blip-vqa-base. It
was trained on single questions: no dialogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import BlipForQuestionAnswering

from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models.blip_text import BlipTextDecoder
from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class BlipVqa(VisionModel):
    """A loaded checkpoint. `network` is a BlipForQuestionAnswering in evaluation mode."""

    network_class = BlipForQuestionAnswering
    tasks = frozenset({"vqa"})

    def __init__(self, parts: Checkpoint) -> None:
        super().__init__(parts)
        positions = int(self.network.config.text_config.max_position_embeddings)
        self.questions = TextTokenizer(self.tokenizer, positions, self.device)
        self.decoder = BlipTextDecoder(self.network.text_decoder, source_limit=positions)
        self.max_length, self.vocab_size = self.decoder.max_length, self.decoder.vocab_size
        self.eos_ids, self.suppressed_ids = self.decoder.eos_ids, self.decoder.suppressed_ids

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
