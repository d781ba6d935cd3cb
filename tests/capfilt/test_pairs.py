"""Image-text pairs of JSONL and CSV files."""

from __future__ import annotations

import csv
import io
import itertools

import pytest

from producer.capfilt.pairs import ImageTextPair, divide, read_pairs
from producer.errors import InvalidInput


def read(text: str | bytes, *, is_csv: bool = False) -> list[ImageTextPair]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_pairs(io.BytesIO(data), is_csv=is_csv))


def messages(pairs: list[ImageTextPair]) -> list[str | None]:
    return [None if pair.error is None else pair.error["message"] for pair in pairs]


def test_a_line_of_json_is_a_pair_and_further_fields_are_ignored() -> None:
    lines = '{"image": "a.jpg", "text": "a cat", "label": true, "url": 5}\n\n'
    lines += '{"image": "b.jpg", "text": " a dog ", "custom_id": null}\n'
    assert read(lines) == [
        ImageTextPair("a.jpg", "a cat", "1", True),
        ImageTextPair("b.jpg", " a dog ", "3", None),
    ]


def test_a_row_of_csv_is_a_pair_even_with_line_breaks_and_quotes() -> None:
    rows = '\ufefftext,image,label,more\n"a ""big""\ncat, here",a.jpg,1,x\na dog,"b,c.jpg",,\n'
    assert read(rows, is_csv=True) == [
        ImageTextPair("a.jpg", 'a "big"\ncat, here', "1", True),
        ImageTextPair("b,c.jpg", "a dog", "2", None),
    ]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("true", True),
        ("1", True),
        ('"yes"', True),
        ("0", False),
        ('"Wrong"', False),
        ("null", None),
    ],
)
def test_a_label_has_several_spellings(label: str, expected: bool | None) -> None:
    (pair,) = read(f'{{"image": "a", "text": "b", "label": {label}}}')
    assert (pair.label, pair.error) == (expected, None)


def test_an_invalid_line_fails_alone_by_name() -> None:
    lines = ['{"image": "a"}', '{"text": "a"}', '{"image": "a", "text": " "}', "{", "5"]
    lines += ['{"image": 5, "text": "a"}', '{"image": "a", "text": "b", "label": 2}']
    lines += ['{"image": "a", "text": "b"}']
    errors = messages(read("\n".join(lines)))
    assert errors.pop() is None
    expected = ["text: missing", "image: missing", "text: empty", "line 4", "line 5"]
    expected += ["image: a string", "label=2"]
    for message, part in itertools.zip_longest(errors, expected):
        assert part in (message or "")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("image,caption\na,b\n", "no column text"),
        ("", "no column image and text"),
        ('image,text\na,"b\n', "not CSV"),
        ("image,text\n" + "a" * 200_000 + ",b\n", "line 2: not CSV"),
    ],
)
def test_an_invalid_csv_file_is_named(rows: str, message: str) -> None:
    csv.field_size_limit(131_072)  # other readers of this process may have raised it
    with pytest.raises(InvalidInput, match=message):
        read(rows, is_csv=True)


def test_a_row_with_too_few_columns_fails_alone() -> None:
    pairs = read("image,text\na\nb,c\nd,e,f\n", is_csv=True)
    assert messages(pairs) == ["text: missing", None, None]


def test_a_path_may_have_another_encoding() -> None:
    (pair,) = read(b"image,text\na\xff.jpg,cat\n", is_csv=True)
    assert pair.image == "a\udcff.jpg"


def test_parts_have_a_digest_of_all_pairs_so_far() -> None:
    pairs = [ImageTextPair(f"{n}.jpg", "a") for n in range(5)]
    parts = list(divide(pairs, 2))
    assert [(part.number, len(part.pairs)) for part in parts] == [(0, 2), (1, 2), (2, 1)]
    assert len({part.digest for part in parts}) == 3
    assert [p.digest for p in divide(pairs[:4], 2)] == [p.digest for p in parts[:2]]
    for changed in (
        ImageTextPair("0.jpg", "b"),
        ImageTextPair("x.jpg", "a"),
        ImageTextPair("0.jpg", "a", label=True),
    ):
        assert next(divide([changed, *pairs[1:]], 2)).digest != parts[0].digest
