"""The contract: tasks, blob references, error codes."""

from __future__ import annotations

import pytest

from producer import contract
from producer.contract import ErrorCode, Item, Task


@pytest.mark.parametrize("name", ["vqa", "blipline.vqa"])
def test_a_task_is_found_by_its_short_and_its_full_name(name: str) -> None:
    assert Task.parse(name) is Task.VQA


def test_an_unknown_task_is_rejected_with_a_list_of_all_tasks() -> None:
    with pytest.raises(ValueError, match=r"'segment'.*caption, vqa"):
        Task.parse("segment")


def test_an_item_can_name_its_own_task_in_short() -> None:
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
def test_a_blob_reference_has_a_complete_sha256(reference: str, expected: bool) -> None:
    assert contract.is_blob(reference) is expected


def test_the_documented_error_codes_are_those_of_the_contract() -> None:
    documented = (
        "image_unreachable image_blocked image_too_large image_invalid prompt_too_long "
        "option_invalid unsupported_task deadline_exceeded cancelled out_of_memory "
        "engine_unavailable poisoned internal"
    )
    assert sorted(documented.split()) == sorted(code.value for code in ErrorCode)
