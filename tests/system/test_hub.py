"""A worker with a hub name: no request with a complete cache, and one commit until its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from huggingface_hub import constants

from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from tests.fake_hub import FakeHub, read_files, running_hub
from tests.hub.conftest import NAME, use_hub
from tests.system import reference
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, socket_path
from worker.hub.cache import set_commit
from worker.hub.reference import HubModel
from worker.hub.resolver import resolve, resolve_config


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the demo model, which this process has downloaded."""
    with running_hub() as hub:
        hub.repository(NAME).push(read_files(DEMO_MODEL))
        use_hub(hub.address, tmp_path / "cache", monkeypatch)
        yield hub


def engine_info(worker: Worker) -> EngineInfo:
    engine = EngineClient(socket_path(worker.run_dir), wait_s=60)
    engine.start()
    info = engine.info(timeout_s=60)
    engine.close()
    return info


def test_a_restarted_engine_has_the_old_commit_although_the_hub_hangs_and_main_moves(
    hub: FakeHub,
) -> None:
    first = resolve(NAME)
    hub.hangs = True
    hub.requests.clear()
    settings = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "BLIPLINE_MODEL": NAME,
        "BLIPLINE_ANSWER_CACHE_S": "0",
    }
    pictures = [draw(random_scene(Random(seed)), 96, 96) for seed in range(4)]
    with running_redis() as url, running_worker(url, settings) as worker, Client(url) as client:
        before = engine_info(worker)
        assert [model.name for model in before.models] == [NAME]
        assert before.models[0].commit == first.commit
        # When another program fetches the configuration of a new commit
        commit = "f" * 40
        new = first.directory.with_name(commit)
        new.mkdir()
        (new / "config.json").write_text("{}")
        set_commit(HubModel(NAME), commit)
        assert resolve_config(NAME).commit == commit
        os.kill(before.pid, signal.SIGKILL)
        jobs = [client.caption(picture) for picture in pictures]
        assert [job.result(timeout=120) for job in jobs] == [*map(reference.caption, pictures)]
        after = engine_info(worker)
        assert after.pid != before.pid
        assert after.models == before.models
    assert hub.requests == []
