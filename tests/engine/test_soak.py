"""A short soak: the program of `benchmarks.soak`, with fewer rows."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.soak.run import Report, Soak, demo_models
from benchmarks.soak.traffic import SHARES
from worker.engine.engine import Engine
from worker.engine.request import Request
from worker.engine.row import Row
from worker.engine.slots import SlotCache

ROWS = 400


@pytest.fixture(scope="module")
def models() -> Any:
    return demo_models()


@pytest.fixture(scope="module")
def report(models: Any) -> Report:
    return Soak(models[0], models[1], seed=5, sample_size=40).run(ROWS, every=200)


def test_every_row_is_answered_once_as_it_should_be_and_nothing_is_left(report: Report) -> None:
    assert report.problems == []
    assert sum(report.outcomes.values()) == report.rows == ROWS


def test_the_soak_has_tried_everything(report: Report) -> None:
    assert set(report.kinds) == set(SHARES)
    assert set(report.outcomes) == {
        "answered",
        "cancelled",
        "deadline_exceeded",
        "image_invalid",
        "image_needed",
        "option_invalid",
        "prompt_too_long",
        "unsupported_task",
    }
    assert report.joined > ROWS / 50
    assert report.compared >= 30


def forget_to_unshare(engine: Engine, row: Row) -> None:
    """Rows that have ended go on being joined."""


def forget_the_request(engine: Engine, row: Row, request: Request) -> None:
    """A request that joins a row is unknown when it is cancelled."""
    row.waiters.append(request)


def forget_the_states(slots: SlotCache, row: int, hole: int) -> None:
    """A row moves without its keys and values."""
    slots.state[:, hole] = slots.state[:, row]


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Engine, "_unshare", forget_to_unshare),
        (Engine, "_join", forget_the_request),
        (SlotCache, "_move", forget_the_states),
    ],
)
def test_the_soak_notices_a_broken_engine(
    models: Any, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, broken: Any
) -> None:
    monkeypatch.setattr(owner, name, broken)
    assert goes_wrong(Soak(models[0], models[1], seed=2, sample_size=40))


def goes_wrong(soak: Soak) -> bool:
    try:
        return soak.run(200).problems != []
    except (KeyError, RuntimeError):
        return True  # it did not even get to the end
