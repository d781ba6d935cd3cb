from __future__ import annotations

import pytest
from pydantic import ValidationError

from producer import contract
from producer.contract import ErrorCode, Item, Options, Task
from producer.validation import MAX_PROBLEMS, MAX_REPORTED, format_errors


@pytest.mark.parametrize("name", ["vqa", "blipline.vqa"])
def test_a_task_is_found_by_its_short_and_its_full_name(name: str) -> None:
    assert Task.parse(name) is Task.VQA


def test_an_unknown_task_is_refused_with_the_list_of_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'segment'.*caption, vqa"):
        Task.parse("segment")


def test_an_item_may_name_its_own_task_in_short() -> None:
    assert Item(image="https://x/y.png", task="vqa").task is Task.VQA  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("blob:" + "0" * 64, True),
        ("blob:" + "0" * 63, False),
        ("blob:" + "G" * 64, False),
        ("https://blob:" + "0" * 64, False),
    ],
)
def test_only_a_whole_sha256_makes_a_blob_reference(reference: str, expected: bool) -> None:
    assert contract.is_blob(reference) is expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"seed": -1}, "seed=-1"),
        ({"repetition_penalty": "much"}, "repetition_penalty='much'"),
        ({"beams": 5}, "beams: no such name; there are max_new_tokens"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Options.model_validate(options)
    assert named in format_errors(raised.value, Options)


@pytest.mark.parametrize("count", [11, MAX_PROBLEMS, MAX_PROBLEMS + 1, 50_000])
def test_of_very_many_things_wrong_the_first_are_named_and_all_are_counted(count: int) -> None:
    with pytest.raises(ValidationError) as raised:
        Options.model_validate({f"n{number}" * 100: 0 for number in range(count)})
    said = format_errors(raised.value, Options)
    assert f"{count:,} things are wrong" in said or f"and {count - MAX_REPORTED:,} more" in said
    assert "max_new_tokens" in said
    assert len(said) < 5000


def test_the_documented_error_codes_are_those_of_the_contract() -> None:
    documented = (
        "image_unreachable image_blocked image_too_large image_invalid prompt_too_long "
        "option_invalid unsupported_task deadline_exceeded cancelled out_of_memory "
        "engine_unavailable poisoned internal"
    )
    assert sorted(documented.split()) == sorted(code.value for code in ErrorCode)
