"""BLIP-2: captions, visual question answering and dialogue, with OPT or Flan-T5.

Li et al. 2023, https://arxiv.org/abs/2301.12597; checkpoints such as Salesforce/blip2-opt-2.7b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.slots import SlotCache
from worker.models.dialogue import ask, with_history
from worker.models.opt import OptLanguage
from worker.models.qformer import QFormer
from worker.models.registry import VQA_TEMPLATE
from worker.models.t5 import T5Language
from worker.models.vision_model import Checkpoint, VisionModel


class Language(Protocol):
    """A language model that goes on from image features and a text."""

    max_length: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]

    def room(self, new: int) -> int: ...

    def prompt(self, text: str) -> Prompt: ...

    def text_ids(self, text: str) -> list[int]: ...

    def new_slots(self, rows: int) -> SlotCache: ...

    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor: ...

    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor: ...

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]: ...

    def text(self, prompt: Prompt, new: list[int], whole: bool) -> str: ...


class Blip2(VisionModel):
    """A loaded checkpoint. `network` is a Blip2ForConditionalGeneration in evaluation mode."""

    network_class: ClassVar[Any] = Blip2ForConditionalGeneration
    tasks = frozenset({"caption", "vqa", "chat"})

    def __init__(self, parts: Checkpoint, vqa_template: str = VQA_TEMPLATE) -> None:
        super().__init__(parts)
        self.vqa_template = vqa_template
        self.language = language = _language(self.network, self.tokenizer)
        self.max_length, self.vocab_size = language.max_length, language.vocab_size
        self.eos_ids, self.suppressed_ids = language.eos_ids, language.suppressed_ids

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (n, queries, hidden of the language model)."""
        return self.qformer(self.tower(self.pixels(pixels)))

    @cached_property
    def qformer(self) -> QFormer:
        """What makes features of an image's states; InstructBLIP's reads more than these."""
        network = self.network
        return QFormer(network.qformer, network.query_tokens, network.language_projection)

    def prompt(self, request: Request) -> Prompt:
        return self.language.prompt(self._words(request))

    def _words(self, request: Request) -> str:
        if request.task == "caption":
            return request.text
        if request.task == "vqa":
            return ask(self.vqa_template, request.text)
        new = request.options.max_new_tokens
        return with_history(
            self.vqa_template, request.history, request.text, lambda text: self._fits(text, new)
        )

    def _fits(self, text: str, new: int) -> bool:
        """Whether the model reads all of a text and has room for `new` tokens after it."""
        return len(self.language.text_ids(text)) <= self.language.room(new)

    def new_slots(self, rows: int) -> SlotCache:
        return self.language.new_slots(rows)

    @torch.inference_mode()
    def prefill(self, features: Tensor, prompts: Sequence[Prompt], slots: SlotCache) -> Tensor:
        return self.language.prefill(features, prompts, slots)

    @torch.inference_mode()
    def decode(self, slots: SlotCache, start: int, stop: int) -> Tensor:
        return self.language.decode(slots, start, stop)

    def generate(
        self,
        features: Tensor,
        prompts: Sequence[Prompt],
        options: GenerationOptions,
        stop: Callable[[], bool],
    ) -> list[list[int]]:
        return self.language.generate(features, prompts, options, stop)

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        # A caption begins with its prompt; an answer never repeats its question.
        return self.language.text(prompt, new, whole=request.task == "caption")


def _language(network: Any, tokenizer: Any) -> Language:
    config = network.config
    # From the model: an older checkpoint's processor lacks both figures, and then silently
    # leaves the image out.
    image_id = config.image_token_index
    if image_id is None:
        image_id = tokenizer.convert_tokens_to_ids("<image>") or len(tokenizer)
    language = T5Language if config.text_config.model_type == "t5" else OptLanguage
    return language(network.language_model, tokenizer, image_id, int(config.num_query_tokens))
