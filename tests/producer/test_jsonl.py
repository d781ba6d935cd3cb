"""JSON Lines: an invalid line fails alone, and no line fills the memory."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from itertools import count, islice, product
from typing import Any

import pytest

from producer.jsonl import MAX_LINE_BYTES, TooManyLines, read_items, read_questions


def test_an_invalid_line_gets_its_own_error() -> None:
    lines = [b'{"image": "a"}', b"{", b"[]", b"\xff\xfe", b"", b'{"custom_id": "x", "image": "b"}']
    first, *bad, last = read_items(io.BytesIO(b"\n".join(lines)))
    assert first == {"custom_id": "1", "image": "a"}
    assert last == {"custom_id": "x", "image": "b"}
    assert [(item["custom_id"], item["error"]["message"].partition(":")[0]) for item in bad] == [
        ("2", "line 2"),
        ("3", "line 3"),
        ("4", "line 4"),
    ]
    assert {item["error"]["code"] for item in bad} == {"option_invalid"}


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"image": ' + b"9" * 5000 + b"}", b"nul"])
def test_no_invalid_line_stops_the_file(line: bytes) -> None:
    bad, good = read_items(io.BytesIO(line + b'\n{"image": "a"}'))
    assert "error" in bad
    assert good["image"] == "a"


def test_an_endless_line_is_rejected_in_bounded_memory() -> None:
    long = b'{"image": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n'
    bad, good = read_items(io.BytesIO(long + b'{"image": "a"}'))
    assert "line 1: longer than" in bad["error"]["message"]
    assert good == {"custom_id": "2", "image": "a"}


def test_only_the_path_of_an_image_may_have_another_encoding() -> None:
    lines = [
        b'{"image": "caf\xe9.jpg", "question": "why?"}',
        b'{"image": "cat.jpg", "question": "caf\xe9?"}',
        b'["caf\xe9.jpg"]',
    ]
    path, *bad = read_items(io.BytesIO(b"\n".join(lines)))
    assert os.fsencode(path["image"]) == b"caf\xe9.jpg"
    assert path["question"] == "why?"
    assert all("not valid UTF-8" in item["error"]["message"] for item in bad)


def test_a_question_that_is_not_utf_8_is_left_to_the_worker() -> None:
    lines = b"\xef\xbb\xbfone?\n\n \xff?\n"
    assert list(read_questions(io.BytesIO(lines))) == ["one?", "\udcff?"]


def test_lines_are_read_as_a_stream() -> None:
    numbers = count(1)

    class Endless(io.RawIOBase):
        def readline(self, size: int | None = -1, /) -> bytes:
            return b'{"image": "%d"}\n' % next(numbers)

    assert [item["image"] for item in islice(read_items(Endless()), 3)] == ["1", "2", "3"]  # type: ignore[arg-type]
    assert next(numbers) == 4


def test_the_second_parser_reads_lines_that_the_fast_one_rejects() -> None:
    lines = [b'\xef\xbb\xbf{"image": "a"}\r', b'{"image": "\\ud800"}', b'{"image": "b"}']
    assert [item["image"] for item in read_items(io.BytesIO(b"\n".join(lines)))] == [
        "a",
        "\ud800",
        "b",
    ]


def test_a_reader_may_limit_the_lines() -> None:
    lines = b'{"image": "a"}\n\n{"image": "b"}\n'
    assert len(list(read_items(io.BytesIO(lines), max_lines=3))) == 2
    items = read_items(io.BytesIO(lines), max_lines=2)
    assert next(items)["image"] == "a"
    with pytest.raises(TooManyLines, match="2 lines"):
        next(items)


def read(*lines: str) -> list[dict[str, Any]]:
    return list(read_items(io.BytesIO("\n".join(lines).encode())))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('{"image": "a", "image": "b"}', "image"),
        ('{"image": "a", "question": "x", "image": "a"}', "image"),
        ('{"image":"a" , "image" :"b"}', "image"),
        ('{"image": "a", "im\\u0061ge": "b"}', "image"),
        ('{"custom_id": "x", "custom_id": "y", "image": "a"}', "custom_id"),
        ('{"image": "a", "error": null, "error": {}}', "error"),
        ('{"image": "a", "history": [{"question": "x", "answer": "y", "answer": "z"}]}', "answer"),
        ('\ufeff{"image": "a", "image": "b"}', "image"),
        ('{"": 1, "": 2}', ""),
    ],
)
def test_a_name_that_occurs_twice_is_an_error_of_its_line(line: str, name: str) -> None:
    _, invalid, after = read('{"image": "a"}', line, '{"image": "c"}')
    assert invalid["error"]["message"] == f"line 2: {name!r}: the name occurs twice in one object"
    assert after["image"] == "c"


def test_a_repeated_value_is_no_repeated_name() -> None:
    lines = [
        '{"image": "image", "question": "question"}',
        '{"image": "a", "question": "\\"image\\": \\u00e9 {"}',
        '{"history": [{"question": "x", "answer": "y"}, {"question": "x", "answer": "y"}]}',
    ]
    assert not [item for item in read(*lines) if "error" in item]


@pytest.mark.parametrize("value", ['{"code": "internal", "message": "x"}', "{}", '"x"', "7"])
def test_no_line_can_set_the_error_of_its_result(value: str) -> None:
    line = f'{{"custom_id": "x", "image": "a", "error": {value}}}'
    assert read(line) == [
        {
            "custom_id": "x",
            "error": {"code": "option_invalid", "message": "line 1: error: no such name"},
        }
    ]


#: A line with an id of its own, one without, and one that cannot be read.
OWN, NONE, INVALID, BLANK = "own", "none", "invalid", "blank"


def with_ids(forms: Sequence[str], first_id: int) -> list[dict[str, Any]]:
    """Return the items of lines of these forms; the ids of their own are consecutive numbers."""
    lines = {NONE: '{"image": "a"}', INVALID: "{", BLANK: ""}
    return read(
        *(
            lines.get(form, f'{{"image": "a", "custom_id": "{number}"}}')
            for number, form in enumerate(forms, first_id)
        )
    )


@pytest.mark.parametrize("first_id", [0, 1, 2, 4])
def test_no_two_lines_have_the_same_id(first_id: int) -> None:
    for forms in product([OWN, NONE, INVALID, BLANK], repeat=4):
        items = with_ids(forms, first_id)
        ids = [item["custom_id"] for item in items if "custom_id" in item]
        assert len(set(ids)) == len(ids), forms
        assert len(items) == len(forms) - forms.count(BLANK)
        own = [str(number) for number, form in enumerate(forms, first_id) if form == OWN]
        if NONE not in forms:
            # Invalid lines do not affect the ids of the others.
            assert ids == own
        elif OWN not in forms:
            start = forms.index(NONE)
            numbers = enumerate(forms, start=1)
            assert ids == [str(n) for n, form in numbers if n > start and form != BLANK]


def test_an_id_that_equals_an_earlier_lines_number_is_an_error() -> None:
    _, _, good, invalid, later = read(
        '{"image": "a"}',
        "{",
        '{"image": "b", "custom_id": "x"}',
        '{"image": "c", "custom_id": "2"}',
        '{"image": "d"}',
    )
    assert good == {"image": "b", "custom_id": "x"}
    assert "'2' is the number of an earlier line" in invalid["error"]["message"]
    assert "custom_id" not in invalid
    assert later == {"image": "d"}
