"""Validation errors as messages for the caller."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from producer.contract import Options
from producer.validation import MAX_PROBLEMS, MAX_REPORTED, format_errors


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
