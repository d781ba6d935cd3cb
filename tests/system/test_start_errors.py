"""A worker that cannot start says why in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from config.settings import DEMO_MODEL
from tests.system.engines import load_engine
from worker.engine.errors import LoadError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"BLIPLINE_MODEL": "/no/such/directory"}, "/no/such/directory"),
        pytest.param(
            {"BLIPLINE_MATCH_MODEL": str(DEMO_MODEL)},
            "BLIPLINE_MATCH_MODEL a retrieval",
            marks=pytest.mark.exhaustive,
        ),
        ({"BLIPLINE_MAX_ROWS": "many"}, "BLIPLINE_MAX_ROWS"),
        ({"BLIPLINE_REDIS_URL": "localhost"}, "redis://"),
    ],
)
def test_a_worker_that_cannot_start_prints_the_reason_in_one_sentence(
    settings: dict[str, str], message: str
) -> None:
    command = [sys.executable, "-m", "worker"]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def test_a_match_model_that_generates_is_refused() -> None:
    with pytest.raises(LoadError, match="BLIPLINE_MATCH_MODEL a retrieval"):
        load_engine(str(DEMO_MODEL), match_model=str(DEMO_MODEL))
