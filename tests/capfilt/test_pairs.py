"""Image-text pairs of tables: texts, labels, identities, and lines that cannot be read."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from producer.capfilt.pairs import ImageTextPair, divide, read_pairs
from producer.errors import InvalidInput
from producer.image_sources.options import SourceOptions

OPTIONS = SourceOptions(text_column=None, has_texts=True)


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes, name: str = "pairs.jsonl") -> list[ImageTextPair]:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_pairs([name], OPTIONS))


def fields(pair: ImageTextPair) -> tuple[object, ...]:
    assert pair.error is None
    return pair.image, *pair.texts, pair.custom_id, pair.label


def messages(pairs: list[ImageTextPair]) -> list[str | None]:
    return [None if pair.error is None else pair.error["message"] for pair in pairs]


def test_a_line_of_json_is_a_pair_and_further_fields_are_ignored() -> None:
    lines = '{"image": "a.jpg", "text": "a cat", "label": true, "url": 5}\n\n'
    lines += '{"image": "b.jpg", "text": " a dog ", "custom_id": null}\n'
    assert [fields(pair) for pair in read(lines)] == [
        ("a.jpg", "a cat", "1", True),
        ("b.jpg", " a dog ", "3", None),
    ]


def test_a_row_of_csv_is_a_pair_even_with_line_breaks_and_quotes() -> None:
    rows = '\ufefftext,image,label,more\n"a ""big""\ncat, here",a.jpg,1,x\na dog,"b,c.jpg",,\n'
    assert [fields(pair) for pair in read(rows, "pairs.csv")] == [
        ("a.jpg", 'a "big"\ncat, here', "1", True),
        ("b,c.jpg", "a dog", "2", None),
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


def test_a_label_may_have_another_column() -> None:
    Path("pairs.csv").write_text("image,text,label,right\na,b,7,no\n")
    (pair,) = read_pairs(["pairs.csv"], OPTIONS, "right")
    assert (pair.label, pair.error) == (False, None)


def test_an_invalid_line_fails_alone_by_name() -> None:
    lines = ['{"image": "a"}', '{"text": "a"}', '{"image": "a", "text": " "}', "{", "5"]
    lines += ['{"image": 5, "text": "a"}', '{"image": "a", "text": "b", "label": 2}']
    lines += ['{"image": "a", "text": [5]}', '{"image": "a", "text": []}']
    lines += ['{"image": "a", "text": "b", "text": "c"}', '{"image": "a", "more": 1}']
    lines += ['{"image": "a", "text": "b"}']
    pairs = read("\n".join(lines))
    errors = messages(pairs)
    assert errors.pop() is None
    expected = ["no a.txt or a.caption beside", "line 2: pairs.jsonl: no column with an image"]
    expected += ["text: empty", "line 4: ", "line 5: not an object", "line 6: column image"]
    expected += ["label=2", "text: a string is needed, not int", "text: missing"]
    expected += [
        "'text': the name occurs twice",
        "no column with a text: name one with --text-column",
    ]
    for message, part in itertools.zip_longest(errors, expected):
        assert part in (message or "")
    assert [pair.custom_id for pair in pairs] == [str(number) for number in range(1, 13)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "image,alt\na,b\n",
            "no column with a text: name one with --text-column; columns: image, alt",
        ),
        ("", "no column with an image: name one with --image-column; columns: none"),
        ('image,text\na,"b\n', "pairs.csv: line 2: not CSV"),
    ],
)
def test_an_invalid_csv_file_is_named(rows: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(rows, "pairs.csv")


def test_a_row_with_too_few_columns_fails_alone() -> None:
    pairs = read("image,text\na\nb,c\nd,e,f\n", "pairs.csv")
    assert messages(pairs) == ["text: missing", None, None]


def test_a_path_may_have_another_encoding_and_a_text_may_not() -> None:
    path, text = read(b"image,text\na\xff.jpg,cat\na.jpg,c\xe4t\n", "pairs.csv")
    assert (path.image, path.error) == ("a\udcff.jpg", None)
    assert text.error is not None
    assert "not valid UTF-8" in text.error["message"]


def test_a_long_url_is_its_own_name_and_image_data_is_not() -> None:
    url, data = f"https://x.org/{'a' * 4000}.jpg", f"data:image/png;base64,{'a' * 4000}"
    pairs = read("".join(f'{{"image": "{image}", "text": "a"}}\n' for image in (url, data)))
    assert [pair.image for pair in pairs] == [url, "pairs.jsonl line 2"]


def test_parts_have_a_digest_of_all_pairs_so_far() -> None:
    pairs = [ImageTextPair(f"{n}.jpg", ["a"]) for n in range(5)]
    parts = list(divide(pairs, 2))
    assert [(part.number, len(part.pairs)) for part in parts] == [(0, 2), (1, 2), (2, 1)]
    assert len({part.digest for part in parts}) == 3
    assert [p.digest for p in divide(pairs[:4], 2)] == [p.digest for p in parts[:2]]
    for changed in (
        ImageTextPair("0.jpg", ["b"]),
        ImageTextPair("0.jpg", ["a", "a"]),
        ImageTextPair("x.jpg", ["a"]),
        ImageTextPair("0.jpg", ["a"], label=True),
        ImageTextPair("0.jpg", ["a"], stamp="1"),
    ):
        assert next(divide([changed, *pairs[1:]], 2)).digest != parts[0].digest


def test_a_changed_file_is_another_pair() -> None:
    Path("a.png").write_bytes(b"1")
    lines = '{"image": "a.png", "text": "a cat"}'
    (before,) = read(lines)
    assert read(lines)[0].identity == before.identity
    os.utime("a.png", ns=(0, 0))
    assert read(lines)[0].identity != before.identity
