"""BLIP-2: captions, visual question answering and dialogue, with OPT or Flan-T5.

Li et al. 2023, https://arxiv.org/abs/2301.12597; checkpoints such as Salesforce/blip2-opt-2.7b.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from worker.engine.model import Prompt, TextDecoder
from worker.engine.request import Request
from worker.models.dialogue import fill_template, format_dialogue
from worker.models.llama import LlamaLanguage
from worker.models.opt import OptLanguage
from worker.models.qformer import QFormer
from worker.models.registry import VQA_TEMPLATE
from worker.models.t5 import T5Language
from worker.models.vision_model import Checkpoint, VisionModel

#: Language models by their type in a configuration.
LANGUAGES: Final[dict[str, Any]] = {"llama": LlamaLanguage, "opt": OptLanguage, "t5": T5Language}


class LanguageModel(TextDecoder, Protocol):
    """A language model that continues image tokens and a text."""

    def text_limit(self, new: int) -> int:
        """Return the maximum tokens of a text that is followed by `new` tokens."""

    def text_ids(self, text: str) -> list[int]:
        """Tokenize a text."""

    def prompt(self, text: str) -> Prompt:
        """Build the prompt of a text: image tokens and text tokens."""

    def text(self, prompt: Prompt, new: list[int], with_prompt: bool) -> str:
        """Return new tokens as text, after the prompt's text if `with_prompt`."""


class Blip2(VisionModel):
    """A loaded checkpoint. `network` is a Blip2ForConditionalGeneration in evaluation mode."""

    network_class: ClassVar[Any] = Blip2ForConditionalGeneration
    tasks = frozenset({"caption", "vqa", "chat"})
    image_modules: ClassVar[tuple[str, ...]] = ("vision_model", "qformer", "language_projection")

    def __init__(self, checkpoint: Checkpoint, vqa_template: str = VQA_TEMPLATE) -> None:
        super().__init__(checkpoint)
        self.vqa_template = vqa_template
        self.decoder = _language_model(self.network, self.tokenizer)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return features (n, queries, hidden of the language model)."""
        return self.qformer(self.tower(self.normalize(pixels)))

    @cached_property
    def qformer(self) -> QFormer:
        """The Q-Former that turns image states into features; InstructBLIP has its own."""
        network = self.network
        projection = network.language_projection
        return QFormer(network.qformer, network.query_tokens, projection, self.adapters)

    def prompt(self, request: Request) -> Prompt:
        return self.decoder.prompt(self._prompt_text(request))

    def _prompt_text(self, request: Request) -> str:
        if request.task == "caption":
            return request.text
        if request.task == "vqa":
            return fill_template(self.vqa_template, request.text)
        options, new = request.options, request.options.max_new_tokens
        if options.max_length is not None:
            new = self.decoder.max_length - options.max_length + 1
        return format_dialogue(
            self.vqa_template, request.history, request.text, lambda text: self._fits(text, new)
        )

    def _fits(self, text: str, new: int) -> bool:
        """Return whether a text and `new` further tokens are within the model's limit."""
        return len(self.decoder.text_ids(text)) <= self.decoder.text_limit(new)

    def condition(self, features: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return features

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        # A caption begins with its prompt; an answer never repeats its question.
        return self.decoder.text(prompt, new, with_prompt=request.task == "caption")


def _language_model(network: Any, tokenizer: Any) -> LanguageModel:
    config = network.config
    # From the model's configuration: an older checkpoint's processor lacks both numbers and would
    # silently omit the image.
    image_id = config.image_token_index
    if image_id is None:
        image_id = tokenizer.convert_tokens_to_ids("<image>") or len(tokenizer)
    queries = int(config.num_query_tokens)
    language: LanguageModel = LANGUAGES[config.text_config.model_type](
        network.language_model, tokenizer, image_id, queries
    )
    return language
