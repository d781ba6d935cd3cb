"""Fields of items: every form of the contract can be written in a message."""

from __future__ import annotations

from typing import Any

import pytest

from producer.contract import Item
from producer.ledger.batch_items import prepare

#: A value of each JSON type.
VALUES: dict[str, Any] = {"array": ["a"], "object": {"a": 1}, "integer": 1, "number": 0.5}


def types_of(schema: dict[str, Any]) -> set[str]:
    """Return the JSON types that a field's schema allows."""
    return {str(part.get("type")) for part in schema.get("anyOf", [schema])}


@pytest.mark.parametrize("name", Item.model_fields)
def test_a_list_an_object_or_a_number_is_written_where_the_contract_has_one(name: str) -> None:
    schema = Item.model_json_schema()["properties"][name]
    for kind in types_of(schema) & set(VALUES):
        item = {"image": "https://a.org/b.png"} | {name: VALUES[kind]}
        assert prepare(item) == item
