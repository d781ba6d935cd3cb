"""Chunks: the bytes that are reserved for the results of their items."""

from __future__ import annotations

from typing import Any, cast

import pytest

from producer.contract import ItemPayload, Queue, Task
from producer.ledger.chunk import Chunk


def reserved(options: dict[str, Any], own: dict[str, Any] | None, **item: Any) -> int:
    """Return the bytes that a chunk reserves for the result of an item."""
    payload = {"image": "https://host/cat.jpg", "options": own, **item}
    chunk = Chunk("job", Task.CAPTION, [cast(ItemPayload, payload)], options)
    return chunk.record(Queue.BULK, "acme").result_bytes


@pytest.mark.parametrize("task", ["caption", "vqa", "describe", "capfilt"])
def test_options_of_an_item_reserve_as_many_bytes_as_those_of_its_chunk(task: str) -> None:
    item = {"task": task} | ({"texts": ["a"]} if task == "capfilt" else {})
    large = {"max_new_tokens": 900}
    assert reserved({}, large, **item) == reserved(large, None, **item)
    assert reserved(large, {"max_new_tokens": 20}, **item) == reserved(
        {"max_new_tokens": 20}, None, **item
    )
    assert reserved({}, large, **item) > 2 * reserved({}, None, **item)


@pytest.mark.parametrize(
    "options", [{"num_return_sequences": 16}, {"output_scores": True}, {"max_length": 500}]
)
def test_each_option_that_lengthens_results_counts(options: dict[str, Any]) -> None:
    assert reserved({}, options) == reserved(options, None) > reserved({}, {})
