"""Validation errors as messages for the caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from producer.contract import Options
from producer.errors import InvalidInput
from producer.validation import (
    MAX_PROBLEMS,
    MAX_REPORTED,
    check_count,
    check_id,
    check_options,
    check_when_full,
    format_errors,
    task_of,
)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"seed": -1}, "seed=-1"),
        ({"repetition_penalty": "much"}, "repetition_penalty='much'"),
        ({"beams": 5}, "beams: no such name; valid names: max_new_tokens"),
    ],
)
def test_an_invalid_option_is_named_with_its_value(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Options.model_validate(options)
    assert named in format_errors(raised.value, Options)


@pytest.mark.parametrize("count", [11, MAX_PROBLEMS, MAX_PROBLEMS + 1, 50_000])
def test_the_first_of_very_many_errors_are_named_and_all_are_counted(count: int) -> None:
    with pytest.raises(ValidationError) as raised:
        Options.model_validate({f"n{number}" * 100: 0 for number in range(count)})
    message = format_errors(raised.value, Options)
    assert (
        f"{count:,} errors; valid names" in message
        or f"and {count - MAX_REPORTED:,} more" in message
    )
    assert "max_new_tokens" in message
    assert len(message) < 5000


@pytest.mark.parametrize(
    "check",
    [
        task_of,
        check_when_full,
        partial(check_id, "job_id"),
        partial(check_count, "keep_s", limit=9),
    ],
)
def test_a_picture_in_the_place_of_another_argument_is_not_repeated(
    check: Callable[[Any], object],
) -> None:
    with pytest.raises(InvalidInput) as raised:
        check(b"\x89PNG" * 25_000)
    assert r"b'\x89PNG" in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("deadline_s", [0, -1, math.nan, math.inf, 10**400, "5", [1], True])
def test_a_deadline_is_a_number_of_seconds(deadline_s: Any) -> None:
    with pytest.raises(InvalidInput, match="deadline_s="):
        check_options({}, deadline_s)
