"""Runs of `blipline capfilt` in a process of their own, which tests kill."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from producer.capfilt.stream import PART_PAIRS
from producer.contract import CHUNK_ITEMS
from tests.cli.shell import PROGRAM

#: Checkpoint of a run whose output is `accepted.jsonl`.
CHECKPOINT: Final = Path(".accepted.jsonl.capfilt", "checkpoint.json")


def kill_after_the_first_part(
    command: Sequence[str], answer_chunk: Callable[[], bool], *, chunks_after: int
) -> None:
    """Kill a run after its first checkpoint, when some chunks of the second part have ended."""
    process = subprocess.Popen([*PROGRAM, *command])
    try:
        answered = 0
        while answered < PART_PAIRS // CHUNK_ITEMS + chunks_after:
            answered += answer_chunk()
        wait_until(lambda: parts_done() == 1)
    finally:
        process.kill()
        process.wait()


def wait_until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.02)


def parts_done() -> int:
    return int(json.loads(CHECKPOINT.read_text())["parts"]) if CHECKPOINT.exists() else 0
