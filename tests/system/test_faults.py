"""Faults of an engine in the middle of a batch lose nothing: the demo model, real signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest
import redis
from PIL import Image

from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from producer import Client
from tests.system import reference
from tests.system.engines import load_engine
from tests.system.service import (
    Service,
    assert_nothing_is_left,
    engine_pid,
    running_service,
    submit,
    texts,
    wait_for,
)
from worker.engine.errors import LoadError

ITEMS = 64


@pytest.fixture(scope="module")
def pictures() -> dict[bytes, str]:
    """Encoded scenes and their captions by plain transformers."""
    rng = Random(5)
    # All different: the engine computes simultaneous equal requests once.
    files = [io.BytesIO() for _ in range(ITEMS)]
    for file in files:
        draw(random_scene(rng), 96, 96).save(file, "PNG")
    captions = reference.captions([Image.open(file) for file in files])
    return dict(zip((file.getvalue() for file in files), captions, strict=True))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that runs after each test, and its Redis."""
    with running_service(tmp_path_factory.mktemp("redis")) as service:
        service.start_worker()
        yield service


def test_killing_the_engine_in_a_batch_loses_no_item_and_changes_no_result(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client, redis.Redis.from_url(service.url) as connection:
        victim = engine_pid(service.run_dir)
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        os.kill(victim, signal.SIGKILL)
        assert batch.progress().done < ITEMS, "the batch was over too soon to prove anything"
        assert texts(batch) == expected
        assert engine_pid(service.run_dir) != victim
        wait_for(lambda: not connection.exists("unacked"))
        assert_nothing_is_left(connection)


def test_an_engine_that_is_stopped_for_too_long_is_replaced(
    service: Service, pictures: dict[bytes, str]
) -> None:
    with Client(service.url) as client:
        victim = engine_pid(service.run_dir)
        batch, expected = submit(client, pictures)
        wait_for(lambda: 0 < batch.progress().done < ITEMS)
        os.kill(victim, signal.SIGSTOP)  # its own watchdog is stopped too
        assert texts(batch) == expected
        assert engine_pid(service.run_dir) != victim


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
