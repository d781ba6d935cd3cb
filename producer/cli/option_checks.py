"""Options that exclude each other, or that a task does not have, however the items differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..contract import ErrorCode, Options, Task
from ..errors import InvalidInput

#: Options of a single generated text, which a description and a filter do not return.
SINGLE_TEXT_OPTIONS: Final = ("max_length", "min_length", "num_return_sequences", "output_scores")
#: Tasks whose result is composed of several generated texts.
_COMPOSED: Final = (Task.DESCRIBE, Task.CAPFILT)
#: Options that say nothing about the text.
_NEUTRAL: Final = frozenset({"deadline", "stream", "do_sample"})


def task_error(options: Options, task: Task, *, ranks: bool = False) -> str | None:
    """Return the error of options that a task does not have, or None.

    `ranks`: the item is a question with a closed list of answers.
    """
    if not ranks and task not in _COMPOSED:
        return None
    changed = [
        name
        for name, field in Options.model_fields.items()
        if name not in _NEUTRAL and getattr(options, name) != field.default
    ]
    if options.do_sample:
        changed.append("do_sample")
    if ranks and (unused := [name for name in changed if name != "output_scores"]):
        return f"{unused[0]}: answers are ranked, not generated; omit it, or omit `answers`"
    if task in _COMPOSED:
        refused = [name for name in changed if name in SINGLE_TEXT_OPTIONS]
        if refused:
            return (
                f"{refused[0]}: the task {task.short} does not accept it; use caption, vqa or chat"
            )
    return None


def check_combination(options: Mapping[str, Any], task: Task, *, ranks: bool = False) -> None:
    """Refuse checked options with which each item would fail, before any is submitted.

    Raises InvalidInput; the worker answers each item so.
    """
    checked = Options.model_validate(options)
    message = checked.combination_error() or task_error(checked, task, ranks=ranks)
    if message is not None:
        raise InvalidInput(message, ErrorCode.OPTION_INVALID)
