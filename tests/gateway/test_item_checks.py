"""Checks of the items of an upload."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from producer.contract import Task
from producer.gateway.access.key_policy import NO_LIMITS, KeyPolicy
from producer.gateway.batches.item_checks import checked_items

from .samples import JSONL, URL, items_in


def errors(policy: KeyPolicy, *items: dict[str, Any], unique: bool = False) -> list[str | None]:
    """Return the error of each item; None for one that passes unchanged."""
    messages = []
    for source, item in zip(
        items, checked_items(iter(items), Task.CAPTION, policy, unique=unique), strict=True
    ):
        error = None if item == source else item["error"]["message"]
        assert item.get("custom_id") == source.get("custom_id")
        messages.append(error)
    return messages


def test_an_id_that_occurs_twice_names_the_first_item_that_has_it() -> None:
    items: list[dict[str, Any]] = [{"image": URL, "custom_id": name} for name in "abcab"]
    first, second, third, *repeated = errors(NO_LIMITS, *items, unique=True)
    assert (first, second, third) == (None, None, None)
    assert repeated == [
        "custom_id: 'a' occurs twice; the item with index 0 has it",
        "custom_id: 'b' occurs twice; the item with index 1 has it",
    ]
    assert errors(NO_LIMITS, *items) == [None] * 5


@pytest.mark.parametrize("name", [None, 7, ["x"]])
def test_items_without_a_text_as_id_are_left_to_the_worker(name: Any) -> None:
    items = [{"image": URL, "custom_id": name}] * 2 + [{"image": URL}] * 2
    assert errors(NO_LIMITS, *items, unique=True) == [None] * 4


def test_ids_are_compared_exactly() -> None:
    names = ("a", "A", "a ", "\u00e4", "a\u0308", "\udcff", "")
    items = [{"image": URL, "custom_id": name} for name in names]
    assert errors(NO_LIMITS, *items, unique=True) == [None] * len(names)


def test_the_id_of_an_invalid_item_counts_and_its_error_stays() -> None:
    failed = {"custom_id": "a", "error": {"code": "option_invalid", "message": "not JSON"}}
    item = {"custom_id": "a", "image": URL}
    assert errors(NO_LIMITS, failed, item, failed, unique=True)[::2] == [None, None]
    assert errors(NO_LIMITS, failed, item, unique=True)[1] is not None
    assert errors(KeyPolicy(tasks=("vqa",)), failed, item) == [
        None,
        "This API key allows the tasks vqa, not caption: use another key, or change its tasks "
        "with `blipline keys limit`",
    ]


def upload(http: httpx.Client, name: str, *items: dict[str, Any], **query: Any) -> None:
    content = "".join(json.dumps(item) + "\n" for item in items)
    answer = http.post("/v1/batches", params={"id": name, **query}, content=content, headers=JSONL)
    assert (answer.status_code, answer.json()["request_counts"]["total"]) == (202, len(items))


def test_a_repeated_id_is_an_error_of_its_line_on_request(
    http: httpx.Client, redis_url: str
) -> None:
    items = [{"image": URL, "custom_id": "a"}] * 2
    upload(http, "any", *items)
    assert items_in(redis_url, "any") == items
    upload(http, "unique", *items, unique_custom_ids="true")
    first, second = items_in(redis_url, "unique")
    assert first == items[0]
    assert (second["custom_id"], second["error"]["code"]) == ("a", "option_invalid")


def test_a_line_has_options_of_its_own(http: httpx.Client, redis_url: str) -> None:
    options: list[Any] = [{"temperature": 0.5, "stop": "."}, {"seed": 1}, {}]
    items = [{"image": URL, "options": each} for each in options]
    upload(http, "own", *items, max_new_tokens=9)
    assert [item["options"] for item in items_in(redis_url, "own")] == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "options: max_new_tokens=0: "),
        ({"colour": 1}, "options: colour: no such name; valid names: max_new_tokens"),
        ({"stream": True}, "options: stream: no such name"),
        ({"deadline": 2e9}, "options: deadline: no such name"),
        ([1], "options: "),
        ("greedy", "options: "),
    ],
    ids=str,
)
def test_invalid_options_are_an_error_of_their_line(
    http: httpx.Client, redis_url: str, options: Any, message: str
) -> None:
    good = {"image": URL, "custom_id": "good"}
    upload(http, "bad", {"image": URL, "custom_id": "bad", "options": options}, good)
    failed, neighbour = items_in(redis_url, "bad")
    assert neighbour == good
    assert (failed["custom_id"], failed["error"]["code"]) == ("bad", "option_invalid")
    assert message in failed["error"]["message"]
