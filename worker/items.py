"""What a message asks, checked: anyone may have written it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from producer import contract
from producer.contract import MAX_TEXT_CHARS, ErrorCode, Item, Options, Task
from worker.engine.request import GenerationOptions
from worker.refused import Refused


@dataclass(frozen=True, slots=True)
class Row:
    """One checked item."""

    task: Task
    item: Item
    text: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all rows of a chunk."""

    options: GenerationOptions
    #: time.monotonic() seconds.
    deadline: float | None
    interactive: bool


def read_terms(options: Any, interactive: bool) -> Terms:
    """Check a chunk's options; raises Refused when they are wrong or its time is already up."""
    try:
        checked = Options.model_validate(options or {})
    except ValidationError as error:
        raise Refused(ErrorCode.OPTION_INVALID, contract.describe(error, Options)) from None
    generation = checked.model_dump()
    deadline = generation.pop("deadline")
    if deadline is not None:
        # Messages cross machines, so they carry Unix time; from here on, the clock never jumps.
        left_s = deadline - time.time()
        if left_s <= 0:
            raise Refused(ErrorCode.DEADLINE_EXCEEDED, f"begun {-left_s:.1f} s after its deadline")
        deadline = time.monotonic() + left_s
    return Terms(GenerationOptions(**generation), deadline, interactive)


def check_item(task: Task, source: Any) -> Row:
    """A row from an item of the message; raises Refused."""
    try:
        item = Item.model_validate(source)
    except ValidationError as error:
        raise Refused(ErrorCode.OPTION_INVALID, contract.describe(error, Item)) from None
    if item.error is not None:
        raise Refused(item.error.code, item.error.message)
    wanted = item.task or task
    problem = _problem(wanted, item)
    if problem is not None:
        raise Refused(ErrorCode.OPTION_INVALID, problem)
    text = (item.question if wanted is Task.VQA else item.prompt) or ""
    if len(text) > MAX_TEXT_CHARS:
        about = f"the text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are read"
        raise Refused(ErrorCode.PROMPT_TOO_LONG, about)
    return Row(wanted, item, text)


def _problem(task: Task, item: Item) -> str | None:
    if not item.image:
        return "image: missing"
    if task is Task.VQA:
        if item.prompt is not None:
            return "prompt: a question has none; captions do"
        if not (item.question or "").strip():
            return "question: empty or missing"
    elif item.question is not None:
        return "question: a caption has none; use the task vqa"
    return None
