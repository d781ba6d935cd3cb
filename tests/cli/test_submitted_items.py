"""Options of `blipline batch submit` are checked with each line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from producer.cli import options
from producer.cli.submitted_items import submitted_items
from producer.contract import Task
from producer.errors import InvalidInput

URL = "https://images.example.com/cat.jpg"
CAPTION = {"image": URL}
RANKED = {"image": URL, "task": "vqa", "question": "what?", "answers": ["a cat", "a dog"]}
DESCRIBE = {"image": URL, "task": "describe"}


def items_of(lines: Sequence[Any], **chosen: Any) -> Iterator[dict[str, Any]]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return submitted_items(io.BytesIO(text.encode()), "caption", chosen)


@pytest.mark.parametrize(
    ("item", "message"),
    [(RANKED, "max_length: answers are ranked"), (DESCRIBE, "max_length: the task describe")],
)
def test_a_later_line_that_cannot_have_the_options_is_an_error_with_its_number(
    item: dict[str, Any], message: str
) -> None:
    lines = [CAPTION, "", item | {"custom_id": "x"}, CAPTION]
    first, refused, last = items_of(lines, max_length=9)
    assert "error" not in first
    assert "error" not in last
    assert refused["error"]["code"] == "option_invalid"
    assert refused["error"]["message"].startswith(f"line 3: {message}")
    assert refused["custom_id"] == "x"
    assert "image" not in refused


def test_the_first_line_refuses_the_whole_file() -> None:
    with pytest.raises(InvalidInput, match="line 1: max_length: answers are ranked"):
        items_of([RANKED, CAPTION], max_length=9)


def test_a_line_with_options_of_its_own_is_for_the_worker_to_judge() -> None:
    _, item = items_of([CAPTION, RANKED | {"options": {}}], max_length=9)
    assert "error" not in item


def test_a_kind_of_items_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[Task] = []
    check = options.check_generation

    def counted(chosen: dict[str, Any], task: Task, *, ranks: bool) -> dict[str, Any]:
        tasks.append(task)
        return check(chosen, task, ranks=ranks)

    monkeypatch.setattr(options, "check_generation", counted)
    assert len(list(items_of([CAPTION, RANKED, DESCRIBE] * 100, num_beams=1))) == 300
    assert len(tasks) == 3
