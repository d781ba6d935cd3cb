"""A supervisor reports its readiness to the supervisor of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from worker.processes.lifeline import READY, STATE_FILE, read_report
from worker.processes.process_list import ProcessEntry
from worker.processes.supervisor import Supervisor

ROUNDS = 6


class FlickeringTree:
    """A tree that is ready in every second round."""

    def __init__(self, on_round: Callable[[], object]) -> None:
        self.entries: Sequence[ProcessEntry] = []
        self.ready = False
        self._on_round = on_round

    def prepare(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Do nothing."""

    def supervise(self, descriptor: int) -> None:
        self._on_round()
        self.ready = not self.ready

    def drain(self, descriptor: int, pause: Callable[[], bool]) -> None:
        """Do nothing."""


def test_every_change_of_readiness_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_FILE, str(tmp_path / "state"))
    states: list[str] = []

    def read_state() -> None:
        report = read_report(tmp_path / "state")
        states.append(report.state if report else "none")
        if len(states) == ROUNDS:
            supervisor.stop()

    tree = FlickeringTree(read_state)
    supervisor = Supervisor(tree, tmp_path, tmp_path / "ready", lambda: None)
    assert supervisor.run() == 0
    assert states == ["starting", READY] * (ROUNDS // 2)


def test_the_ready_file_exists_while_the_tree_is_ready(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    # That of a killed predecessor.
    ready_file.touch()
    exists: list[bool] = []

    def look() -> None:
        exists.append(ready_file.exists())
        if len(exists) == ROUNDS:
            supervisor.stop()

    tree = FlickeringTree(look)
    tree.ready = True
    supervisor = Supervisor(tree, tmp_path, ready_file, lambda: None)
    assert supervisor.run() == 0
    assert exists == [True, False] * (ROUNDS // 2)
    assert not ready_file.exists()
