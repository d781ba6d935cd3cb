"""Numbers with their noun."""

from __future__ import annotations

import pytest

from producer.quantity import quantity


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1234, "labelled pair", "1,234 labelled pairs"),
        (1, "entry", "1 entry"),
        (2, "new entry", "2 new entries"),
        (3, "batch", "3 batches"),
    ],
)
def test_one_is_singular_and_everything_else_plural(number: int, noun: str, text: str) -> None:
    assert quantity(number, noun) == text
