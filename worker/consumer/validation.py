"""Validation of the items of a message, which any client may have written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from producer.contract import (
    CAPTIONS,
    MAX_TEXT_CHARS,
    MAX_TEXTS_CHARS,
    THRESHOLD,
    Detail,
    ErrorCode,
    Item,
    Task,
)
from producer.validation import format_errors
from worker.errors import ItemRejected
from worker.recipes.capfilt import FilterTerms

#: Fields that an item of a task requires, and optional fields; `image` is checked separately.
REQUIRED = {
    Task.CAPTION: (),
    Task.VQA: ("question",),
    Task.CHAT: ("question",),
    Task.MATCH: ("texts",),
    Task.EMBED: (),
    Task.DESCRIBE: (),
    Task.CAPFILT: ("texts",),
}
OPTIONAL = {
    Task.CAPTION: ("prompt", "options", "adapter"),
    Task.VQA: ("answers", "options", "adapter"),
    Task.CHAT: ("history", "options", "adapter"),
    Task.MATCH: (),
    Task.EMBED: ("text",),
    Task.DESCRIBE: ("prompts", "detail", "options", "adapter"),
    Task.CAPFILT: ("captions", "threshold", "synthetic_threshold", "options", "adapter"),
}
#: Fields that depend on the task, in the order in which errors name them.
TASK_FIELDS = (
    *("prompt", "question", "answers", "history", "texts", "text", "prompts", "detail"),
    *("captions", "threshold", "synthetic_threshold", "options", "adapter"),
)


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """An item that has passed validation, with its task."""

    task: Task
    item: Item

    @property
    def text(self) -> str:
        """The single text of the item, in the field of its task."""
        return self.item.question or self.item.prompt or self.item.text or ""

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """The newest turns that together stay within the length limit of a text."""
        turns: list[tuple[str, str]] = []
        remaining = MAX_TEXT_CHARS
        for turn in reversed(self.item.history or ()):
            remaining -= len(turn.question) + len(turn.answer)
            if remaining < 0:
                break
            turns.append((turn.question, turn.answer))
        return tuple(reversed(turns))

    @property
    def adapter(self) -> str:
        """The name of the adapter; empty for none."""
        return self.item.adapter or ""

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.item.texts or ())

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers among which a question has its answer, each once."""
        return tuple(dict.fromkeys(self.item.answers or ()))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of a description, each once."""
        return tuple(dict.fromkeys(self.item.prompts or ()))

    @property
    def detail(self) -> Detail:
        """The level of detail of a description."""
        return self.item.detail or Detail.MEDIUM

    @property
    def filter_terms(self) -> FilterTerms:
        """The number of synthetic captions and the thresholds of CapFilt."""
        captions, threshold = self.item.captions, self.item.threshold
        threshold = THRESHOLD if threshold is None else threshold
        synthetic = self.item.synthetic_threshold
        return FilterTerms(
            CAPTIONS if captions is None else captions,
            threshold,
            threshold if synthetic is None else synthetic,
        )


def check_item(task: Task, source: Any) -> CheckedItem:
    """Check an item of a message. Raises ItemRejected if it is invalid."""
    try:
        item = Item.model_validate(source)
    except ValidationError as error:
        raise ItemRejected(ErrorCode.OPTION_INVALID, format_errors(error, Item)) from None
    if item.error is not None:
        raise ItemRejected(item.error.code, item.error.message)
    task = item.task or task
    message = _image_error(task, item) or _text_error(task, item)
    if message is not None:
        raise ItemRejected(ErrorCode.OPTION_INVALID, message)
    total = sum(map(len, [*(item.texts or ()), *(item.answers or ())]))
    if total > MAX_TEXTS_CHARS:
        message = f"the texts have {total:,} characters; the limit is {MAX_TEXTS_CHARS:,}"
        raise ItemRejected(ErrorCode.PROMPT_TOO_LONG, message)
    longest = max(map(len, _texts(item)), default=0)
    if longest > MAX_TEXT_CHARS:
        message = f"the text has {longest:,} characters; the limit is {MAX_TEXT_CHARS:,}"
        raise ItemRejected(ErrorCode.PROMPT_TOO_LONG, message)
    return CheckedItem(task, item)


def _image_error(task: Task, item: Item) -> str | None:
    if task is Task.EMBED and item.text is not None:
        message = "image: an embedding needs an image or a text, not both"
        return message if item.image else None
    return None if item.image else "image: missing"


def _text_error(task: Task, item: Item) -> str | None:
    allowed = (*REQUIRED[task], *OPTIONAL[task])
    for name in TASK_FIELDS:
        if getattr(item, name) is not None and name not in allowed:
            tasks = " or ".join(_tasks_with(name))
            return f"{name}: the task {task.short} does not accept it; use {tasks}"
    for name in REQUIRED[task]:
        value = getattr(item, name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return f"{name}: empty or missing"
    if item.text is not None and not item.text.strip():
        return "text: empty"
    if any(not text.strip() for text in item.texts or ()):
        return "texts: a text is empty"
    if any(not answer for answer in item.answers or ()):
        return "answers: an answer is empty"
    return None


def _tasks_with(name: str) -> list[str]:
    """Return the tasks whose items may have this field."""
    return [task.short for task in Task if name in (*REQUIRED[task], *OPTIONAL[task])]


def _texts(item: Item) -> Iterator[str]:
    singles = (item.prompt, item.question, item.text)
    for text in (*singles, *(item.texts or ()), *(item.answers or ()), *(item.prompts or ())):
        if text is not None:
            yield text
    for turn in item.history or ():
        yield turn.question
        yield turn.answer
