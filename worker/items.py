"""What a message asks, checked: anyone may have written it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from producer import contract
from producer.contract import ErrorCode, Item, Options, Task
from worker.engine.request import GenerationOptions

#: One item's entry in the result of its chunk.
Result = dict[str, Any]


class Refused(Exception):
    """No item of the chunk can be worked on; `code` is one of the contract's."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


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


def check_item(task: Task, source: Any) -> Row | Result:
    """A row, or the error that this item ends with."""
    try:
        item = Item.model_validate(source)
    except ValidationError as error:
        return contract.failure(ErrorCode.OPTION_INVALID, contract.describe(error, Item))
    if item.error is not None:
        return {"error": item.error.model_dump(mode="json")}
    wanted = item.task or task
    problem = _problem(wanted, item)
    if problem is not None:
        return contract.failure(ErrorCode.OPTION_INVALID, problem)
    return Row(wanted, item, (item.question if wanted is Task.VQA else item.prompt) or "")


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
