"""A JSON array as a batch: the same items, whatever the pieces in which it arrives."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from random import Random
from typing import Any, Final

import httpx
import pytest

from producer.gateway.http.json_array import array_as_lines
from producer.gateway.http.problems import Problem

URL: Final = "https://images.example.com/cat.jpg"
#: Characters that matter in JSON, also within strings.
CHARACTERS: Final = 'a"\\[]{},\n:é \u2028'


def random_value(rng: Random, depth: int) -> Any:
    """Return a value with nested arrays, objects and strings of special characters."""
    kind = rng.randrange(4 if depth else 2)
    if kind == 0:
        return rng.choice([None, True, -1.5e-7, 12])
    if kind == 1:
        return "".join(rng.choices(CHARACTERS, k=rng.randrange(6)))
    values = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return values if kind == 2 else {f'{n}"{{': value for n, value in enumerate(values)}


def pieces_of(body: bytes, rng: Random) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        end = start + rng.randrange(1, 9)
        yield body[start:end]
        start = end


@pytest.mark.parametrize("seed", range(40))
def test_lines_are_the_elements(seed: int) -> None:
    rng = Random(seed)
    elements = [{"value": random_value(rng, 3)} for _ in range(rng.randrange(6))]
    indent = rng.choice([None, 0, 2])
    text = json.dumps(elements, indent=indent, ensure_ascii=rng.random() < 0.5)
    body = rng.choice([b"", b"\xef\xbb\xbf", b" \n\t"]) + text.encode()
    lines = b"".join(array_as_lines(pieces_of(body, rng))).split(b"\n")
    assert [json.loads(line) for line in lines if line.strip(b" \t\r\n\xef\xbb\xbf")] == elements


def test_other_bodies_are_unchanged() -> None:
    for body in (b"", b'{"a": [1,\n2]}\n{}', b'"["'):
        assert b"".join(array_as_lines(pieces_of(body, Random(1)))) == body


@pytest.mark.parametrize("seed", range(5))
def test_lines_keep_their_numbers_after_white_space(seed: int) -> None:
    body = b'\xef\xbb\xbf\r\n \t\n\n{"a": 1}\n\n{}'
    assert b"".join(array_as_lines(pieces_of(body, Random(seed)))) == b'\n\n\n{"a": 1}\n\n{}'


@pytest.mark.parametrize("end", [b"", b"{}", b"[{}]"])
def test_white_space_of_any_size_takes_little_memory(end: bytes) -> None:
    pieces, size = (b" \n" * (1 << 15) for _ in range(1 << 9)), 1 << 25
    tracemalloc.start()
    lines = sum(piece.count(b"\n") for piece in array_as_lines(chain(pieces, [end])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == (0 if end == b"[{}]" else size // 2)
    assert peak < size // 32


@pytest.mark.parametrize("seed", range(10))
def test_a_line_break_within_a_string_is_invalid_in_its_element_alone(seed: int) -> None:
    body = b'[{"a": "x\ny"}, {"a": "x\\\ny"}, {"a": "x\r\n"}, {"a": "\\\\"}]'
    lines = b"".join(array_as_lines(pieces_of(body, Random(seed)))).split(b"\n")
    assert len(lines) == 4
    assert json.loads(lines[3]) == {"a": "\\"}
    for line in lines[:3]:
        with pytest.raises(json.JSONDecodeError):
            json.loads(line)


@pytest.mark.parametrize("body", [b"[", b'[{"a": 1}', b'[{"a": "]', b"[]]", b'["\\'])
def test_an_array_that_does_not_end_is_an_error(body: bytes) -> None:
    with pytest.raises(Problem, match="not a"):
        list(array_as_lines(iter([body])))


@pytest.mark.parametrize("kind", ["application/json", "application/jsonl", None])
def test_an_array_is_a_batch(http: httpx.Client, kind: str | None) -> None:
    items = [{"custom_id": "a", "image": URL}, {"custom_id": "b"}, 5]
    headers = {} if kind is None else {"Content-Type": kind}
    name = f"array-{(kind or 'none').rpartition('/')[2]}"
    for content in (
        json.dumps(items, indent=1).encode(),
        gzip.compress(json.dumps(items).encode()),
    ):
        answer = http.post("/v1/batches", params={"id": name}, content=content, headers=headers)
        assert (answer.status_code, answer.json()["request_counts"]["total"]) == (202, 3)
    empty = http.post("/v1/batches", content=b"[ ]", headers=headers)
    assert (empty.status_code, "no items" in empty.text) == (422, True)
