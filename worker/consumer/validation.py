"""What a message asks, checked: anyone may have written it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from producer.contract import (
    MAX_DEADLINE_S,
    MAX_TEXT_CHARS,
    MAX_TEXTS_CHARS,
    ErrorCode,
    Item,
    Options,
    Task,
)
from producer.validation import format_errors
from worker.engine.request import GenerationOptions
from worker.errors import ItemRejected

#: What an item of a task must have, and what it may have besides. Its image is told apart below.
NEEDED = {
    Task.CAPTION: (),
    Task.VQA: ("question",),
    Task.CHAT: ("question",),
    Task.MATCH: ("texts",),
    Task.EMBED: (),
}
ALLOWED = {
    Task.CAPTION: ("prompt",),
    Task.VQA: (),
    Task.CHAT: ("history",),
    Task.MATCH: (),
    Task.EMBED: ("text",),
}
#: Fields that say what is asked, in the order that errors name them.
ASKED = ("prompt", "question", "history", "texts", "text")


@dataclass(frozen=True, slots=True)
class CheckedItem:
    """One checked item."""

    task: Task
    item: Item

    @property
    def text(self) -> str:
        """The one text of an item, by whatever name its task has for it."""
        return self.item.question or self.item.prompt or self.item.text or ""

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """The newest turns, as many as a text may have characters."""
        kept: list[tuple[str, str]] = []
        left = MAX_TEXT_CHARS
        for turn in reversed(self.item.history or ()):
            left -= len(turn.question) + len(turn.answer)
            if left < 0:
                break
            kept.append((turn.question, turn.answer))
        return tuple(reversed(kept))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.item.texts or ())


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """What holds for all rows of a chunk."""

    options: GenerationOptions
    #: time.monotonic() seconds.
    deadline: float | None
    interactive: bool


def read_options(options: Any, interactive: bool) -> ChunkOptions:
    """Check a chunk's options; raises Refused when they are wrong or its time is already up."""
    try:
        checked = Options.model_validate(options or {})
    except ValidationError as error:
        raise ItemRejected(ErrorCode.OPTION_INVALID, format_errors(error, Options)) from None
    generation = checked.model_dump()
    deadline = generation.pop("deadline")
    if deadline is not None:
        # Messages cross machines, so they carry Unix time; from here on, the clock never jumps.
        left_s = deadline - time.time()
        if left_s <= 0:
            raise ItemRejected(
                ErrorCode.DEADLINE_EXCEEDED, f"begun {-left_s:.1f} s after its deadline"
            )
        # Whoever gave milliseconds waits for ever, and no longer than clocks can say.
        deadline = time.monotonic() + min(left_s, MAX_DEADLINE_S)
    return ChunkOptions(GenerationOptions(**generation), deadline, interactive)


def check_item(task: Task, source: Any) -> CheckedItem:
    """A row from an item of the message; raises Refused."""
    try:
        item = Item.model_validate(source)
    except ValidationError as error:
        raise ItemRejected(ErrorCode.OPTION_INVALID, format_errors(error, Item)) from None
    if item.error is not None:
        raise ItemRejected(item.error.code, item.error.message)
    wanted = item.task or task
    problem = _image_problem(wanted, item) or _text_problem(wanted, item)
    if problem is not None:
        raise ItemRejected(ErrorCode.OPTION_INVALID, problem)
    together = sum(map(len, item.texts or ()))
    if together > MAX_TEXTS_CHARS:
        about = f"the texts have {together:,} characters; at most {MAX_TEXTS_CHARS:,} are read"
        raise ItemRejected(ErrorCode.PROMPT_TOO_LONG, about)
    longest = max(map(len, _texts(item)), default=0)
    if longest > MAX_TEXT_CHARS:
        about = f"the text has {longest:,} characters; at most {MAX_TEXT_CHARS:,} are read"
        raise ItemRejected(ErrorCode.PROMPT_TOO_LONG, about)
    return CheckedItem(wanted, item)


def _image_problem(task: Task, item: Item) -> str | None:
    if task is Task.EMBED and item.text is not None:
        both = "image: an embedding is of an image or of a text, not of both"
        return both if item.image else None
    return None if item.image else "image: missing"


def _text_problem(task: Task, item: Item) -> str | None:
    known = (*NEEDED[task], *ALLOWED[task])
    for name in ASKED:
        if getattr(item, name) is not None and name not in known:
            return f"{name}: the task {task.short} has none{_instead(name)}"
    for name in NEEDED[task]:
        value = getattr(item, name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return f"{name}: empty or missing"
    if item.text is not None and not item.text.strip():
        return "text: empty"
    if any(not text.strip() for text in item.texts or ()):
        return "texts: one of them is empty"
    return None


def _instead(name: str) -> str:
    """Which tasks know this field."""
    tasks = [task.short for task in Task if name in (*NEEDED[task], *ALLOWED[task])]
    return f"; use {' or '.join(tasks)}"


def _texts(item: Item) -> Iterator[str]:
    for text in (item.prompt, item.question, item.text, *(item.texts or ())):
        if text is not None:
            yield text
    for turn in item.history or ():
        yield turn.question
        yield turn.answer
