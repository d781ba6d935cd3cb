"""Prompts of image-text models: by the chat template of the checkpoint, or as plain text.

A control token in a user's text would be read as one: as an image, or as the end of a turn. A space
after its first character makes it ordinary text.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from PIL import Image

from worker.engine.request import Request
from worker.models.dialogue import fill_template
from worker.models.image_text.processor import CAPTION_ONLY, Processor

#: Instruction of a caption without a prompt.
INSTRUCTION: Final = "Describe this image in one short sentence."
#: Prompts of captions by model type, from the model cards, where there is no chat template.
CAPTION_PROMPTS: Final = {
    "florence2": "<CAPTION>",
    "git": "",
    "kosmos-2": "An image of",
    "paligemma": "caption en",
}
#: Templates of questions by model type, from the model cards; by default the question itself.
QUESTION_TEMPLATES: Final = {
    "kosmos-2": "Question: {question} Answer:",
    "paligemma": "answer en {question}",
}
#: Types whose published models answer no questions.
WITHOUT_QUESTIONS: Final = frozenset({"florence2"})
#: Types whose caption continues its prompt, so that it begins with it.
CONTINUING: Final = frozenset({"git", "kosmos-2"})


def type_tasks(model_type: str) -> frozenset[str]:
    """Return the tasks of a model type without a chat template."""
    if model_type == CAPTION_ONLY or model_type in WITHOUT_QUESTIONS:
        return frozenset({"caption"})
    return frozenset({"caption", "vqa"})


class Prompts(Protocol):
    """The prompts of one model."""

    tasks: frozenset[str]
    #: The tokenizer adds its special tokens, such as the begin of text.
    adds_special_tokens: bool

    def text(self, request: Request) -> str | None:
        """Return the processor's text for a request; None if the model reads no text.

        Raises ValueError for a prompt that the model does not take.
        """

    def prefix(self, request: Request) -> str:
        """Return the text that the answer begins with."""


class NoPrompts:
    """A model that reads no text, such as a ViT with GPT-2."""

    tasks = type_tasks(CAPTION_ONLY)
    adds_special_tokens = True

    def text(self, request: Request) -> str | None:
        if request.text:
            raise ValueError("This model reads no text; omit the prompt.")
        return None

    def prefix(self, request: Request) -> str:
        return ""


class ChatPrompts:
    """The prompts of a model with a chat template. A caption's prompt is its instruction."""

    tasks = frozenset({"caption", "vqa", "chat"})

    def __init__(self, processor: Processor) -> None:
        self.template = processor.multimodal
        self.control = ControlTokens(processor)
        begin = processor.tokenizer.bos_token
        sample = self._render([("user", INSTRUCTION)])
        # As transformers does: a template that writes the begin of text replaces the tokenizer's.
        self.adds_special_tokens = not (begin and sample.startswith(begin))

    def text(self, request: Request) -> str:
        turns = [
            turn
            for pair in request.history
            for turn in zip(("user", "assistant"), pair, strict=True)
        ]
        return self._render([*turns, ("user", request.text or INSTRUCTION)])

    def prefix(self, request: Request) -> str:
        return ""

    def _render(self, turns: list[tuple[str, str]]) -> str:
        """Format turns of (role, text); the first one has the image."""
        messages = [
            {"role": role, "content": [{"type": "text", "text": self.control.escape(text)}]}
            for role, text in turns
        ]
        messages[0]["content"].insert(0, {"type": "image"})  # type: ignore[attr-defined]
        rendered: str = self.template.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        return rendered


class PlainPrompts:
    """The prompts of a model without a chat template: the text, after the image's token."""

    def __init__(self, processor: Processor, model_type: str, image_prefix: str) -> None:
        self.model_type, self.image_prefix = model_type, image_prefix
        self.control = ControlTokens(processor)
        self.adds_special_tokens = True
        if model_type == "git":
            # The tokenizer would end the text, which the model continues.
            self.adds_special_tokens = False
            self.image_prefix = processor.tokenizer.cls_token
        self.tasks = type_tasks(model_type)

    def text(self, request: Request) -> str:
        text = self.control.escape(request.text)
        if request.task == "vqa":
            text = fill_template(QUESTION_TEMPLATES.get(self.model_type, "{question}"), text)
        elif not text:
            text = CAPTION_PROMPTS.get(self.model_type, INSTRUCTION)
        return self.image_prefix + text

    def prefix(self, request: Request) -> str:
        continues = request.task == "caption" and self.model_type in CONTINUING
        return request.text.strip() if continues else ""


class ControlTokens:
    """The control tokens of a processor."""

    def __init__(self, processor: Processor) -> None:
        tokenizer = processor.tokenizer
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        tokens = added | set(tokenizer.all_special_tokens)
        tokens |= {getattr(processor.multimodal, "image_token", None) or ""}
        # A single character, such as a newline, is ordinary text.
        longest_first = sorted((t for t in tokens if len(t) > 1 and t.strip()), key=len)[::-1]
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def escape(self, text: str) -> str:
        """Return a text without control tokens."""
        text.encode()  # raises ValueError for a lone surrogate
        return self._pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def read_prompts(processor: Processor, config: Any) -> Prompts:
    """Return the prompts of a processor."""
    multimodal = processor.multimodal
    if multimodal is None:
        return NoPrompts()
    if getattr(multimodal, "chat_template", None):
        return ChatPrompts(processor)
    return PlainPrompts(processor, config.model_type, image_prefix(multimodal))


def image_prefix(multimodal: Any) -> str:
    """Return the text that stands for the image in a prompt: "" if the processor inserts it."""
    token = getattr(multimodal, "image_token", None)
    if not token:
        return ""
    try:
        multimodal(images=[[Image.new("RGB", (64, 64))]], text=["a"], return_tensors="pt")
    except ValueError:
        return f"{token}\n"
    return ""
