"""Generation options of messages and of their items."""

from __future__ import annotations

import time
from typing import Any

import pytest

from producer.contract import ErrorCode, Task
from worker.consumer.chunk_options import read_options
from worker.consumer.validation import check_item
from worker.engine.request import GenerationOptions
from worker.errors import ItemRejected

IMAGE = "https://x/y.png"
#: Redis's time, which is not this host's.
NOW = 1_000_000_000.0


def rejection(options: Any) -> ItemRejected:
    with pytest.raises(ItemRejected) as raised:
        read_options(options, False, NOW)
    return raised.value


def of_caption(chunk: dict[str, Any], own: dict[str, Any] | None) -> GenerationOptions:
    """Return the options of a caption with options of its own in a chunk."""
    item = check_item(Task.CAPTION, {"image": IMAGE, "options": own})
    return read_options(chunk, False, NOW).of_item(item)


@pytest.mark.parametrize("options", [None, {}])
def test_no_options_are_plain_greedy_decoding(options: Any) -> None:
    checked = read_options(options, True, NOW)
    assert checked.decoding.max_new_tokens == 20
    assert checked.decoding.temperature == 0
    assert checked.deadline is None


def test_a_deadline_is_converted_to_the_monotonic_clock() -> None:
    options = read_options({"deadline": NOW + 60}, False, NOW)
    assert options.deadline is not None
    assert 59 < options.deadline - time.monotonic() <= 60


def test_the_deadline_of_the_ledger_replaces_that_of_the_options() -> None:
    options = read_options({"deadline": NOW - 3600}, False, NOW, NOW + 60)
    assert options.deadline is not None
    assert 59 < options.deadline - time.monotonic() <= 60


def test_a_chunk_started_after_its_deadline_is_rejected() -> None:
    assert rejection({"deadline": NOW - 5}).code is ErrorCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("options", [{"beams": 5}, {"top_p": 0}, "greedy", [1], 7])
def test_invalid_options_are_rejected(options: Any) -> None:
    assert rejection(options).code is ErrorCode.OPTION_INVALID


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_return_sequences": 2}, "a greedy search finds a single text"),
        ({"num_return_sequences": 3, "num_beams": 2}, "raise num_beams"),
        ({"num_return_sequences": 2, "temperature": 1, "do_sample": False}, "greedy search"),
        ({"diversity_penalty": 1}, "set num_beam_groups"),
        ({"num_beam_groups": 2, "diversity_penalty": 1}, "does not divide num_beams, 1"),
        ({"num_beams": 5, "num_beam_groups": 2, "diversity_penalty": 1}, "a multiple of it"),
        ({"num_beams": 2, "num_beam_groups": 4, "diversity_penalty": 1}, "a multiple of it"),
        ({"num_beams": 4, "num_beam_groups": 2}, "needs a diversity_penalty above 0"),
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1, "temperature": 1},
            "excludes sampling",
        ),
        ({"num_beam_groups": 0}, "num_beam_groups"),
        ({"diversity_penalty": -1}, "diversity_penalty"),
        ({"max_length": 30, "max_new_tokens": 10}, "exclude each other"),
        ({"min_length": 3, "min_new_tokens": 1}, "exclude each other"),
        ({"min_new_tokens": 21}, "min_new_tokens exceeds max_new_tokens"),
        ({"min_new_tokens": 11, "max_length": 10}, "min_new_tokens exceeds max_length"),
        ({"min_length": 11, "max_length": 10}, "min_length exceeds max_length: lower it"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"suppress_tokens": [-1]}, "suppress_tokens.0"),
    ],
)
def test_options_that_contradict_each_other_are_rejected(
    options: dict[str, Any], message: str
) -> None:
    assert message in str(rejection(options))


def test_do_sample_decides_about_sampling() -> None:
    for flag, temperature, expected in [
        (None, 0.5, 0.5),
        (True, 0.0, 1.0),
        (True, 0.5, 0.5),
        (False, 0.5, 0.0),
    ]:
        options = read_options({"do_sample": flag, "temperature": temperature}, False, NOW)
        assert options.decoding.temperature == expected


def test_a_single_stop_text_is_a_list_of_one() -> None:
    assert read_options({"stop": "."}, False, NOW).decoding.stop == (".",)


@pytest.mark.parametrize("task", [Task.DESCRIBE, Task.CAPFILT])
@pytest.mark.parametrize("options", [{"max_length": 40}, {"output_scores": True}])
def test_a_task_that_composes_its_text_refuses_options_of_one_text(
    task: Task, options: dict[str, Any]
) -> None:
    of_chunk = read_options(options, False, NOW)
    of_chunk.of_item(check_item(Task.CAPTION, {"image": IMAGE}))
    texts = {"texts": ["x"]} if task is Task.CAPFILT else {}
    with pytest.raises(ItemRejected, match=r"use caption, vqa or chat"):
        of_chunk.of_item(check_item(task, {"image": IMAGE, **texts}))


@pytest.mark.parametrize(
    ("chunk", "own", "expected"),
    [
        ({"temperature": 0.5, "seed": 1}, None, {"temperature": 0.5, "seed": 1}),
        ({"temperature": 0.5, "seed": 1}, {"seed": 2}, {"temperature": 0.5, "seed": 2}),
        ({"temperature": 0.5}, {"temperature": 0}, {}),
        ({"max_new_tokens": 9}, {"max_new_tokens": 20}, {}),
        ({"max_length": 9}, {"max_length": None, "max_new_tokens": 5}, {"max_new_tokens": 5}),
        ({"stop": ["a"]}, {"stop": "b"}, {"stop": ("b",)}),
        ({"deadline": NOW + 60}, {"num_beams": 2}, {"num_beams": 2}),
    ],
)
def test_options_of_an_item_replace_those_of_its_chunk(
    chunk: dict[str, Any], own: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert of_caption(chunk, own) == GenerationOptions(**expected)


@pytest.mark.parametrize(
    ("chunk", "own", "message"),
    [
        ({}, {"colour": 1}, "options.colour: no such name"),
        ({}, {"deadline": NOW + 60}, "options.deadline: no such name"),
        ({}, {"stream": True}, "options.stream: no such name"),
        ({}, {"num_beams": 0}, "options.num_beams=0"),
        ({"max_length": 9}, {"max_new_tokens": 5}, "exclude each other"),
    ],
)
def test_invalid_options_of_an_item_are_rejected(
    chunk: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    with pytest.raises(ItemRejected, match=message):
        of_caption(chunk, own)


@pytest.mark.parametrize(("task", "field"), [("match", {"texts": ["x"]}), ("embed", {})])
def test_a_task_that_generates_no_text_rejects_options_of_an_item(
    task: str, field: dict[str, Any]
) -> None:
    item = {"image": IMAGE, "task": task, "options": {"seed": 1}, **field}
    with pytest.raises(ItemRejected, match=f"options: the task {task} does not accept it"):
        check_item(Task.CAPTION, item)
