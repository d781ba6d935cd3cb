"""Validation of arguments, and error messages that name the argument and the remedy."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from numbers import Real
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from .contract import (
    CAPTIONS,
    MAX_ADAPTER_CHARS,
    MAX_CAPTIONS,
    MAX_PROMPTS,
    MAX_TEXTS,
    THRESHOLD,
    Detail,
    Options,
    Task,
    TurnPayload,
    is_adapter_name,
)
from .errors import InvalidInput
from .ledger.backpressure import WhenFull

#: Maximum errors listed in a message; the others are counted.
MAX_REPORTED: Final = 10
#: Maximum errors read: pydantic takes a second to report a hundred thousand.
MAX_PROBLEMS: Final = 1000

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_id(name: str, value: Any) -> None:
    """Check the id of a job or batch."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(f"{name}={value!r:.200}: use 1 to 128 letters, digits, '-', '_' or '.'")


def check_count(name: str, value: Any, limit: int) -> None:
    """Check a number between 1 and a limit."""
    if not isinstance(value, int) or not 1 <= value <= limit:
        raise InvalidInput(f"{name}={value!r:.100}: choose 1 to {limit:,}")


def _check_seconds(name: str, value: Any) -> None:
    """Check a duration."""
    try:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        seconds = float(value) if is_number else math.nan
    except OverflowError:
        seconds = math.inf
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"{name}={value!r:.100}: must be a number of seconds above 0")


def check_text(name: str, text: Any) -> None:
    """Check a text that must not be empty."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"the {name} is empty, or not a string: pass a text about the image")


def check_texts(texts: str | Iterable[str]) -> list[str]:
    """Return one text or several as a list."""
    checked = [texts] if isinstance(texts, str) else list_of("texts", texts)
    if not 0 < len(checked) <= MAX_TEXTS:
        raise InvalidInput(f"texts: 1 to {MAX_TEXTS} texts are needed, not {len(checked):,}")
    for text in checked:
        check_text("text", text)
    return checked


def check_adapter(adapter: Any) -> str | None:
    """Return the name of an adapter, if there is one."""
    if adapter is None or (isinstance(adapter, str) and is_adapter_name(adapter)):
        return adapter
    raise InvalidInput(
        f"adapter={adapter!r:.200}: use 1 to {MAX_ADAPTER_CHARS} letters, digits, '-', '_' or '.', "
        "as in the worker's BLIPLINE_ADAPTERS"
    )


def check_answers(answers: Any) -> list[str]:
    """Return the answers among which a question has its answer."""
    checked = list_of("answers", answers)
    if not 0 < len(checked) <= MAX_TEXTS:
        raise InvalidInput(f"answers: 1 to {MAX_TEXTS} are needed, not {len(checked):,}")
    for answer in checked:
        check_text("answer", answer)
    return checked


def filter_fields(
    captions: int, threshold: float, synthetic_threshold: float | None
) -> dict[str, float]:
    """Return the fields of CapFilt that differ from their defaults."""
    if type(captions) is not int or not 0 <= captions <= MAX_CAPTIONS:
        raise InvalidInput(f"captions={captions!r:.100}: choose 0 to {MAX_CAPTIONS}")
    fields: dict[str, float] = {} if captions == CAPTIONS else {"captions": captions}
    check_probability("threshold", threshold)
    if threshold != THRESHOLD:
        fields["threshold"] = float(threshold)
    if synthetic_threshold is not None:
        check_probability("synthetic_threshold", synthetic_threshold)
        fields["synthetic_threshold"] = float(synthetic_threshold)
    return fields


def check_probability(name: str, value: Any) -> None:
    """Check a number between 0 and 1."""
    # A bool is an int, and NaN compares as false.
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise InvalidInput(f"{name}={value!r:.100}: choose a probability, 0 to 1")


def check_when_full(when_full: Any) -> WhenFull:
    """Return the behaviour under backpressure."""
    if when_full not in ("wait", "raise"):
        raise InvalidInput(f"when_full={when_full!r:.100}: choose 'wait' or 'raise'")
    return "wait" if when_full == "wait" else "raise"


def list_of(name: str, values: Any) -> list[Any]:
    """Return the values of an iterable that is not a string."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name}: a list is needed, not {type(values).__name__}")
    return list(values)


def turn_of(turn: Any) -> TurnPayload:
    """Return a turn of a dialogue, from a pair or from a mapping of the contract's form."""
    question = answer = None
    if isinstance(turn, Mapping):
        question, answer = turn.get("question"), turn.get("answer")
    elif isinstance(turn, Sequence) and not isinstance(turn, str) and len(turn) == 2:
        question, answer = turn
    if not (isinstance(question, str) and isinstance(answer, str)):
        raise InvalidInput(f"history: pairs of question and answer are needed, not {turn!r:.100}")
    return {"question": question, "answer": answer}


def unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raises InvalidInput if it has a name twice.

    Parsers differ in the choice between two equal names. For `object_pairs_hook` of `json.loads`.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidInput(f"{name!r:.100}: the name occurs twice in one object")
    return values


def check_prompts(prompts: Sequence[Any]) -> list[str]:
    """Check the prompts of a description; an empty one is a caption without a prompt."""
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise InvalidInput(f"prompts: 1 to {MAX_PROMPTS} are needed, not {len(prompts):,}")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise InvalidInput(f"prompts: strings are needed, not {type(prompt).__name__}")
    return list(prompts)


def detail_of(level: Detail | str) -> Detail:
    """Return the level of detail of this name."""
    try:
        return Detail(level)
    except ValueError:
        known = ", ".join(Detail)
        raise InvalidInput(f"detail={level!r:.100}: choose one of {known}") from None


def task_of(name: Task | str) -> Task:
    """Return the task of a name."""
    try:
        return Task.parse(name)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def check_options(options: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
    """Check the options; return those that differ from their defaults, as messages carry them."""
    try:
        checked = Options.model_validate(options).model_dump(exclude_defaults=True)
    except ValidationError as error:
        raise InvalidInput(format_errors(error, Options)) from None
    if deadline_s is not None:
        _check_seconds("deadline_s", deadline_s)
        # Workers of earlier versions read only this time; the others count the seconds.
        checked["deadline"] = time.time() + float(deadline_s)
    return checked


def seconds_to_deadline(options: Mapping[str, Any]) -> float | None:
    """Return the seconds from now to the deadline that this host set; None if there is none."""
    deadline = options.get("deadline")
    return None if deadline is None else deadline - time.time()


def format_errors(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one message for all errors of an object of this model."""
    known = ", ".join(model.model_fields)
    if (count := error.error_count()) > MAX_PROBLEMS:
        return f"{count:,} errors; valid names: {known}"

    def describe(problem: Mapping[str, Any]) -> str:
        name = ".".join(map(str, problem["loc"])) or model.__name__.lower()
        is_name = problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1
        more = f"; valid names: {known}" if is_name else ""
        return format_error(name, problem) + more

    return join_errors(map(describe, error.errors(include_url=False)), count)


def join_errors(messages: Iterable[str], count: int) -> str:
    """Join error messages; list at most MAX_REPORTED of them."""
    reported = [*islice(messages, MAX_REPORTED)]
    if count > MAX_REPORTED:
        reported.append(f"and {count - MAX_REPORTED:,} more")
    return "; ".join(reported)


def format_error(name: str, error: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error, for the value of this name."""
    if error["type"] == "extra_forbidden":
        return f"{name:.100}: no such name"
    if error["type"] == "missing":
        return f"{name:.100}: is missing"
    message = str(error["msg"]).removeprefix("Value error, ").lower()
    return f"{name:.100}={error.get('input')!r:.100}: {message}"
