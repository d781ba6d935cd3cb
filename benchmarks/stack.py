"""Calls to the real stack that `demo.stack` starts."""

from __future__ import annotations

from collections.abc import Sequence

from demo.stack import Worker
from producer import Client
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

#: Rounds repeat the same items, so every cache is disabled.
SETTINGS = {
    "BLIPLINE_FEATURE_CACHE_MB": "0",
    "BLIPLINE_ANSWER_CACHE_S": "0",
    "BLIPLINE_MATCH_MODEL": "none",
}


def one_job(client: Client, image: bytes) -> str:
    """Submit a caption job and wait for its text."""
    return client.caption(image).result(timeout=60)


def through_stack(client: Client, images: Sequence[bytes]) -> list[str | None]:
    """Submit a batch of uploads and return its captions in order."""
    batch = client.submit_batch(images)
    return [result.text for result in batch.results(timeout=120)]


def engine_stats(worker: Worker) -> dict[str, float]:
    """Return the engine's statistics."""
    client = EngineClient(socket_path(worker.run_dir), wait_s=10)
    client.start()
    client.info(timeout_s=10)
    stats = client.stats()
    client.close()
    if stats is None:
        raise RuntimeError("the engine does not answer")
    return stats
