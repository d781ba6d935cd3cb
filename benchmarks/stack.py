"""The real stack, as `demo.stack` starts it, seen by a benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from demo.stack import Worker
from producer import Client
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

#: Every round asks the same again: nothing that is kept from an earlier one may help the worker.
SETTINGS = {
    "BLIPLINE_FEATURE_CACHE_MB": "0",
    "BLIPLINE_ANSWER_CACHE_S": "0",
    "BLIPLINE_MATCH_MODEL": "none",
}


def one_job(client: Client, image: bytes) -> str:
    """Submit and poll."""
    return client.caption(image).result(timeout=60)


def through_stack(client: Client, images: Sequence[bytes]) -> list[str | None]:
    """Upload, queue, wait: the captions in order."""
    batch = client.submit_batch(images)
    return [result.text for result in batch.results(timeout=120)]


def figures(worker: Worker) -> dict[str, float]:
    """The engine's own counters."""
    line = EngineClient(socket_path(worker.run_dir), wait_s=10)
    line.start()
    line.info(timeout_s=10)
    found = line.stats()
    line.close()
    if found is None:
        raise RuntimeError("the engine is away")
    return found
