"""Inputs and outputs of the command line in tests."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.cli.app import run
from producer.cli.exit_codes import Exit
from producer.ledger.ledger import Ledger

URL = "https://images.example.com/cat.jpg"
#: The command line as a program.
PROGRAM = [sys.executable, "-m", "producer.cli"]
TURN = {"question": "what is it?", "answer": "a cat"}

#: Stores the results of a chunk, given its id.
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def id_of(message: bytes | str) -> str:
    """Return the task id of a Celery message."""
    task_id: str = json.loads(message)["headers"]["id"]
    return task_id


def queued(connection: redis.Redis, queue: str = "bulk") -> list[dict[str, Any]]:
    """Return the payloads of all queued chunks, oldest first."""
    ids = [id_of(message) for message in reversed(connection.lrange(queue, 0, -1))]
    records = Ledger(connection).records(ids) if ids else []
    return [json.loads(record.payload) for record in records if record is not None]


def write_lines(*items: Any) -> str:
    """Write items to a JSONL file and return its name."""
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return "items.jsonl"


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """Replace `sys.stdin` by a file with this data."""
    with (
        io.TextIOWrapper(tempfile.TemporaryFile()) as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        stream.buffer.write(data)
        stream.seek(0)
        patch.setattr(sys, "stdin", stream)
        yield


def json_lines(text: str) -> list[Any]:
    """Parse each line as JSON."""
    return [json.loads(line) for line in text.splitlines()]


def submit_batch(capsys: pytest.CaptureFixture[str], count: int, *arguments: str) -> str:
    """Submit a batch of captions with the custom ids c0, c1, … and return its id."""
    items = ({"custom_id": f"c{n}", "image": URL} for n in range(count))
    assert run(["batch", "submit", write_lines(*items), *arguments]) == Exit.OK
    return capsys.readouterr().out.strip()


def results_of(first: int, end: int) -> list[dict[str, Any]]:
    """Return results for the items from `first` up to but excluding `end`."""
    return [{"custom_id": f"c{n}", "text": str(n)} for n in range(first, end)]
