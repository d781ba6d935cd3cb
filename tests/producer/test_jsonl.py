"""JSON Lines: an invalid line fails alone, and no line fills the memory."""

from __future__ import annotations

import io
from itertools import count, islice

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
