"""InstructBLIP with Flan-T5 or Vicuna: a BLIP-2 whose Q-Former also reads the text.

Dai et al. 2023, https://arxiv.org/abs/2305.06500; checkpoints such as
Salesforce/instructblip-flan-t5-xl and Salesforce/instructblip-vicuna-7b.

An image's cached features are therefore those of its vision encoder; the Q-Former runs on them
again for every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Self

import torch
from torch import Tensor
from transformers import InstructBlipForConditionalGeneration

from worker.engine.errors import PromptTooLong
from worker.engine.model import Prompt
from worker.engine.request import Request
from worker.hub.files import QFORMER_TOKENIZER
from worker.hub.reference import Snapshot
from worker.models.blip2 import Blip2
from worker.models.text_inputs import TextTokenizer
from worker.models.tokenizer import read_tokenizer
from worker.models.vision_model import Checkpoint, VisionModel

#: Instruction of a caption without a prompt, as in the authors' own COCO and NoCaps runs (LAVIS,
#: lavis/projects/instructblip/caption_coco_flant5xl_eval_test.yaml).
INSTRUCTION: Final = "A short image caption."


class InstructBlip(Blip2):
    """A loaded checkpoint. `network` is an InstructBlipForConditionalGeneration.

    Q-Former and language model read the same text: a question unchanged; a dialogue in BLIP-2's
    template, which separates its turns; a caption's prompt as the instruction, since many training
    instructions are beginnings of captions ('A photo of'). A caption begins with its prompt as in
    the other families, but not with the default instruction.
    """

    network_class = InstructBlipForConditionalGeneration
    image_modules = ("vision_model",)

    def __init__(self, checkpoint: Checkpoint, question_tokenizer: Any) -> None:
        super().__init__(checkpoint)
        positions = int(self.network.config.qformer_config.max_position_embeddings)
        self.questions = TextTokenizer(question_tokenizer, positions, self.device)

    @classmethod
    def open(
        cls,
        snapshot: Snapshot,
        config: Any,
        precision: str,
        device: torch.device,
        image_backend: str,
        **settings: str,
    ) -> Self:
        questions = read_questions(snapshot, config)
        checkpoint = cls.read_checkpoint(
            snapshot, config, precision, device, image_backend, *settings.values()
        )
        return cls(checkpoint, questions)

    @classmethod
    def check_files(cls, snapshot: Snapshot, config: Any) -> None:
        read_questions(snapshot, config)
        super().check_files(snapshot, config)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return features (n, 1 + patches, hidden of the vision model)."""
        return VisionModel.encode(self, pixels)

    def prompt(self, request: Request) -> Prompt:
        text = self._prompt_text(request)
        return replace(self.decoder.prompt(text), query=self.questions.tokens(text))

    def _prompt_text(self, request: Request) -> str:
        if request.task == "chat":
            return super()._prompt_text(request)
        return request.text or INSTRUCTION

    def _fits(self, text: str, new: int) -> bool:
        try:
            self.questions.tokens(text)
        except PromptTooLong:
            return False
        return super()._fits(text, new)

    @torch.inference_mode()
    def condition(self, features: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Run the Q-Former on images and texts; return image tokens (n, queries, hidden)."""
        network = self.network
        ids, mask = self.questions.batch([prompt.query or [] for prompt in prompts])
        queries = network.query_tokens.expand(len(features), -1, -1)
        # No image mask: the queries attend to the whole image.
        states = network.qformer(
            input_ids=ids,
            attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], 1),
            query_embeds=queries,
            encoder_hidden_states=features,
        ).last_hidden_state
        tokens: Tensor = network.language_projection(states[:, : queries.shape[1]])
        return tokens

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        with_prompt = request.task == "caption" and bool(request.text)
        return self.decoder.text(prompt, new, with_prompt=with_prompt)


def read_questions(snapshot: Snapshot, config: Any) -> Any:
    """Read the tokenizer of the Q-Former's texts. Raises LoadError."""
    return read_tokenizer(snapshot, int(config.qformer_config.vocab_size), QFORMER_TOKENIZER)
