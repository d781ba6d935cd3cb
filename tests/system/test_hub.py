"""A worker with a hub name: no request with a complete cache, and one commit until its end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import redis
from huggingface_hub import constants
from transformers import Blip2ForConditionalGeneration

from config.settings import DEMO_MODEL
from demo.scenes import draw, random_scene
from demo.stack import Worker, free_port, running_redis, running_worker
from producer import Client
from tests.fake_hub import FakeHub, read_files, running_hub
from tests.hub.conftest import NAME, use_hub
from tests.models.adapters import merge, save_adapter
from tests.monitoring import samples
from tests.redis_servers import wait_until
from tests.system import reference
from tests.system.engines import decode_pixels, load_engine
from tests.system.service import SLOW, assert_nothing_is_left
from worker.engine.client import EngineClient
from worker.engine.protocol import EngineInfo, socket_path
from worker.engine.request import Request
from worker.engine.selfcheck import run
from worker.hub.cache import set_commit
from worker.hub.reference import HubModel
from worker.hub.resolver import resolve, resolve_config

#: A repository with a checkpoint that loads and answers in no time.
TINY = "owner/tiny"
ANSWERS = "blipline_engine_answers_total"
SINGLE_OK = "blipline_worker_items_total ok interactive caption"
BULK_OK = "blipline_worker_items_total ok bulk caption"
RESTARTS = "blipline_worker_process_restarts_total engine"
#: Jobs before the batch, and the batch: a few chunks after each other, so that it is hit in its
#: middle.
SINGLE, ITEMS, SLOTS, CHUNK_ITEMS = 4, 32, 2, 4


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the demo model, and an empty cache for this process."""
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


def move_main(name: str) -> None:
    """Let another program fetch the configuration of a new commit into the cache."""
    commit = "f" * 40
    folder = resolve(name).directory.with_name(commit)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    set_commit(HubModel(name), commit)
    assert resolve_config(name).commit == commit


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "refuses"])
def test_an_engine_loads_from_the_cache_when_the_hub_hangs_or_refuses(
    hub: FakeHub, checkpoint: Path, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repository(TINY).push(read_files(checkpoint))
    cached = resolve(TINY)
    hub.requests.clear()
    hub.hangs = hangs
    if not hangs:
        use_hub(f"http://127.0.0.1:{free_port()}", Path(constants.HF_HUB_CACHE), monkeypatch)
    _, model = load_engine(TINY)
    assert (model.name, model.commit) == (TINY, cached.commit)
    assert hub.requests == []


def test_an_engine_has_an_adapter_of_the_hub_on_the_base_that_it_names(
    hub: FakeHub, tmp_path: Path
) -> None:
    base = hub.repository(NAME).revisions["main"]
    adapter = save_adapter(
        Blip2ForConditionalGeneration, DEMO_MODEL, tmp_path / "adapter", scale=0.3
    )
    merged = merge(Blip2ForConditionalGeneration, DEMO_MODEL, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": NAME})
    )
    commit = hub.repository("owner/lora").push(read_files(adapter))
    engine, info = load_engine("owner/lora")
    assert (info.name, info.commit) == (f"{NAME} with owner/lora", f"{base}+{commit}")
    pictures = [draw(random_scene(Random(seed)), 96, 96) for seed in range(3)]
    rows = [
        Request(number, "caption", str(number), decode_pixels(info, picture))
        for number, picture in enumerate(pictures)
    ]
    answers = [answer.text for answer in run(engine, rows)]
    assert answers == [reference.caption(picture, network=merged) for picture in pictures]
    assert answers != [reference.caption(picture) for picture in pictures]


def test_a_worker_downloads_once_and_an_engine_that_dies_in_a_batch_changes_nothing(
    hub: FakeHub,
) -> None:
    port = free_port()
    settings = {
        **SLOW,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "BLIPLINE_MODEL": NAME,
        "BLIPLINE_BULK_SLOTS": str(SLOTS),
        "BLIPLINE_METRICS_PORT": str(port),
    }
    pictures = [draw(random_scene(Random(seed)), 96, 96) for seed in range(SINGLE + ITEMS)]
    # All different: the engine computes simultaneous equal requests once.
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    expected = reference.captions(pictures)
    with (
        running_redis() as url,
        redis.Redis.from_url(url) as connection,
        Client(url) as client,
        running_worker(url, settings) as worker,
    ):

        def captions() -> list[str]:
            jobs = [client.caption(picture) for picture in pictures[:SINGLE]]
            return [job.result(timeout=120) for job in jobs]

        def value(name: str) -> float:
            return samples(f"http://127.0.0.1:{port}/metrics").get(name, 0)

        # Given a worker that has filled the cache
        before = engine_info(worker)
        first = [(model.name, model.commit) for model in before.models]
        assert first == [(NAME, resolve(NAME).commit)]
        assert sorted(hub.downloads()) == sorted(read_files(DEMO_MODEL))
        # The engine publishes its counts each second, those of its self-check first.
        wait_until(lambda: value(ANSWERS) > 0, "the count of answers")
        checks = value(ANSWERS)
        assert captions() == expected[:SINGLE]
        wait_until(lambda: value(ANSWERS) == checks + SINGLE, "the count of answers")
        # When the hub hangs, `main` has moved, and the engine dies in the middle of a batch
        hub.hangs = True
        hub.requests.clear()
        move_main(NAME)
        batch = client.submit_batch(pictures[SINGLE:], chunk_items=CHUNK_ITEMS)
        wait_until(lambda: batch.progress().done > 0, "the first results")
        # Its count stands still, too.
        os.kill(before.pid, signal.SIGSTOP)
        answered, done = value(ANSWERS), batch.progress().done
        os.kill(before.pid, signal.SIGKILL)
        assert done < ITEMS, "the batch was over too soon to prove anything"
        # Then the supervisor answers while the next engine is still loading
        wait_until(lambda: value(RESTARTS) == 1, "the count of restarts")
        assert value(ANSWERS) == answered
        assert "blipline_engine_active_rows" not in samples(f"http://127.0.0.1:{port}/metrics")
        # And all items are answered as before, by the old commit, without a request
        assert [result.text for result in batch.results(timeout=120)] == expected[SINGLE:]
        assert captions() == expected[:SINGLE]
        after = engine_info(worker)
        assert after.pid != before.pid
        assert after.models == before.models
        wait_until(lambda: not connection.exists("unacked"), "all acknowledgements")
        assert_nothing_is_left(connection)
        # And the counters of both engines add up: it may have answered items of running chunks.
        maximum = answered + checks + ITEMS - done + SINGLE
        wait_until(lambda: value(ANSWERS) >= maximum - SLOTS * CHUNK_ITEMS, "the count of answers")
        assert value(ANSWERS) <= maximum
        wait_until(lambda: value(SINGLE_OK) == 2 * SINGLE, "the count of items")
        wait_until(lambda: value(BULK_OK) == ITEMS, "the count of items")
        wait_until(lambda: value("blipline_worker_ready") == 1, "readiness")
    assert hub.requests == []
