"""The watchdog, in processes that it really ends."""

from __future__ import annotations

import subprocess
import sys

BEGIN = "import time; from worker.engine.watchdog import Watchdog; dog = Watchdog(0.1);"


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGIN + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_progress_the_process_ends_and_shows_where_it_hung() -> None:
    ended = run("dog.step(); time.sleep(50)")
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "<module>" in ended.stderr


def test_a_call_that_keeps_the_interpreter_to_itself_is_noticed_too() -> None:
    ended = run("dog.step(); (1 << 3_000_000_000) % 12345678901")
    assert ended.returncode == 1


def test_progress_and_rest_keep_it_alive() -> None:
    steps = "[(dog.step(), time.sleep(0.05)) for _ in range(50)]; dog.rest(); time.sleep(1.5)"
    ended = run(f"{steps}; dog.step(); dog.rest(); print('alive')")
    assert (ended.returncode, ended.stdout) == (0, "alive\n")
