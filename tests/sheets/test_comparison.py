"""Two outputs are paired by name, and their texts compared word by word."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.sheets.comparison import compare
from producer.sheets.entry import SheetEntry
from producer.sheets.word_diff import MarkedText, word_diff


def entry(name: str, text: str = "", error: str | None = None) -> SheetEntry:
    return SheetEntry(name, None, text, error)


@pytest.mark.parametrize(
    ("first", "second", "marked", "marked_others"),
    [
        ("a red dog", "a red dog", [("a red dog", False)], [("a red dog", False)]),
        (
            "a red dog runs",
            "a blue dog runs",
            [("a ", False), ("red", True), (" ", False), ("dog runs", False)],
            [("a ", False), ("blue", True), (" ", False), ("dog runs", False)],
        ),
        ("a dog", "a dog.", [("a dog", False)], [("a dog", False), (".", True)]),
        ("", "a dog", [], [("a dog", True)]),
        ("It's red", "it's red", [("It's", True), (" ", False), ("red", False)], None),
    ],
)
def test_words_that_differ_are_marked(
    first: str, second: str, marked: MarkedText, marked_others: MarkedText | None
) -> None:
    parts, others, _ = word_diff(first, second)
    assert parts == marked
    assert marked_others is None or others == marked_others


@pytest.mark.parametrize(
    ("first", "second"), [("a b\nc  d", "a\tb x d"), (" y - z!", "z?"), ("日本 a", "a 日本")]
)
def test_the_parts_are_the_whole_text(first: str, second: str) -> None:
    parts, others, similarity = word_diff(first, second)
    assert "".join(text for text, _ in parts) == first.strip()
    assert "".join(text for text, _ in others) == second.strip()
    assert 0 <= similarity <= 1


def test_similarity_is_one_for_equal_and_zero_for_distinct_texts() -> None:
    assert word_diff("a red dog", "a red dog")[2] == 1
    assert word_diff("a red dog", "two cats")[2] == 0
    assert word_diff("", "")[2] == 1


def test_entries_are_paired_by_name_in_the_order_of_the_first_output() -> None:
    first = [entry("b", "x"), entry("a", "y"), entry("only", "z"), entry("bad", error="no image")]
    second = [entry("new", "n"), entry("a", "y"), entry("b", "X"), entry("bad", "fine")]
    pairs = list(compare(first, second))
    assert [(pair.entry.name, pair.kind) for pair in pairs] == [
        ("b", "different"),
        ("a", "same"),
        ("only", "first"),
        ("bad", "error"),
        ("new", "second"),
    ]


def test_equal_names_are_paired_in_order() -> None:
    pairs = list(compare([entry("a", "1"), entry("a", "2")], [entry("a", "1"), entry("a", "3")]))
    assert [pair.kind for pair in pairs] == ["same", "different"]


def test_outputs_without_a_common_image_are_an_error() -> None:
    with pytest.raises(InvalidInput, match="begins with 'a', the second with 'b'"):
        list(compare([entry("a")], [entry("b")]))
