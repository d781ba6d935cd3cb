"""InstructBLIP with Flan-T5: a BLIP-2 whose Q-Former also reads what is asked.

Dai et al. 2023, https://arxiv.org/abs/2305.06500; checkpoints such as
Salesforce/instructblip-flan-t5-xl.

So what can be kept of an image is what its vision encoder saw; the Q-Former looks at that anew for
every text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Self

import torch
from torch import Tensor
from transformers import InstructBlipForConditionalGeneration

from worker.engine.errors import PromptTooLong
from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models.blip2 import Blip2
from worker.models.checkpoint import fingerprint, read_weights
from worker.models.pixels import read_processor
from worker.models.registry import VQA_TEMPLATE
from worker.models.text_inputs import TextTokenizer
from worker.models.vision_model import Checkpoint, VisionModel, read_tokenizer

#: What is asked for a caption without a prompt: the instruction of the authors' own COCO and NoCaps
#: runs (LAVIS, lavis/projects/instructblip/caption_coco_flant5xl_eval_test.yaml).
INSTRUCTION: Final = "A short image caption."


class InstructBlip(Blip2):
    """A loaded checkpoint. `network` is an InstructBlipForConditionalGeneration.

    Q-Former and language model read the same text: a question as it is; a dialogue in BLIP-2's
    template, by which turns can be told apart; a caption's prompt as the instruction, of which many
    that the model was trained with are beginnings of captions ('A photo of'). A caption begins with
    its prompt here as elsewhere, but not with the instruction that stands in for one.
    """

    network_class = InstructBlipForConditionalGeneration

    def __init__(self, parts: Checkpoint, question_tokenizer: Any) -> None:
        super().__init__(parts)
        positions = int(self.network.config.qformer_config.max_position_embeddings)
        self.questions = TextTokenizer(question_tokenizer, positions, self.device)

    @classmethod
    def open(
        cls, model: str, config: Any, precision: str, device: torch.device, **settings: str
    ) -> Self:
        processor, tokenizer = read_processor(model, config), read_tokenizer(model)
        questions = read_tokenizer(model, subfolder="qformer_tokenizer")
        network = read_weights(cls.network_class, model, precision, device)
        vocabulary = json.dumps(questions.get_vocab(), sort_keys=True)
        told = (processor.to_json_string(), VQA_TEMPLATE, INSTRUCTION, vocabulary)
        revision = fingerprint(network, tokenizer, *told)
        return cls(Checkpoint(model, revision, precision, network, tokenizer, processor), questions)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (n, 1 + patches, hidden of the vision model)."""
        return VisionModel.encode(self, pixels)

    def prompt(self, request: Request) -> Prompt:
        words = self._words(request)
        return replace(self.language.prompt(words), query=self.questions.tokens(words))

    def _words(self, request: Request) -> str:
        if request.task == "chat":
            return super()._words(request)
        return request.text or INSTRUCTION

    def _fits(self, text: str, new: int) -> bool:
        try:
            self.questions.tokens(text)
        except PromptTooLong:
            return False
        return super()._fits(text, new)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        return super().prefill(self._look(features, prompts), prompts, slots)

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        return super().generate(self._look(features, prompts), prompts, options, stop)

    @torch.inference_mode()
    def _look(self, features: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """The image tokens of each row, by what its text asks: (n, queries, hidden)."""
        network = self.network
        ids, mask = self.questions.batch([prompt.query or [] for prompt in prompts])
        queries = network.query_tokens.expand(len(features), -1, -1)
        # Without a mask for the image: all of it is seen.
        seen = network.qformer(
            input_ids=ids,
            attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], 1),
            query_embeds=queries,
            encoder_hidden_states=features,
        ).last_hidden_state
        tokens: Tensor = network.language_projection(seen[:, : queries.shape[1]])
        return tokens

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        whole = request.task == "caption" and bool(request.text)
        return self.language.text(prompt, new, whole=whole)
