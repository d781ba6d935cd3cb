"""BLIP visual question answering: an encoder reads question and image, a decoder answers.

Li et al. 2022, https://arxiv.org/abs/2201.12086; checkpoints such as Salesforce/blip-vqa-base. It
was trained on single questions, so it offers no dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BlipForQuestionAnswering

from worker.engine.model import Prompt
from worker.engine.request import Request
from worker.models.blip_text import BlipTextDecoder
from worker.models.generation import decode_text
from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel


class BlipVqa(VisionModel):
    """A loaded checkpoint. `network` is a BlipForQuestionAnswering in evaluation mode."""

    network_class = BlipForQuestionAnswering
    tasks = frozenset({"vqa"})

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        positions = int(self.network.config.text_config.max_position_embeddings)
        self.questions = TextTokenizer(self.tokenizer, positions, self.device)
        self.decoder = BlipTextDecoder(self.network.text_decoder, source_limit=positions)

    def prompt(self, request: Request) -> Prompt:
        return Prompt([self.decoder.bos_id], source=self.questions.tokens(request.text))

    @torch.inference_mode()
    def condition(self, features: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Return encoder states (n, longest question, hidden), padded on the right."""
        ids, mask = self.questions.batch([prompt.source or [] for prompt in prompts])
        states: Tensor = self.network.text_encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=features
        ).last_hidden_state
        return states

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        return decode_text(self.tokenizer, new)
