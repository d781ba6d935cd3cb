"""A chunk runner with a real Redis and a real engine process that only echoes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from producer.ledger import blobs
from producer.ledger.leases import Leases
from producer.ledger.ledger import Ledger
from producer.net.address_policy import AddressPolicy
from tests.consumer.runners import StartRunner, picture
from worker.consumer.chunks import ChunkRunner
from worker.consumer.pipeline import ItemPipeline
from worker.consumer.polish import Polisher
from worker.consumer.result_cache import ResultCache
from worker.consumer.text_publisher import TextPublisher
from worker.engine.client import EngineClient
from worker.images.fetcher import Fetcher
from worker.images.loader import ImageLoader

ECHO = Path(__file__).parents[1] / "echo_engine.py"


@pytest.fixture
def start_runner(connection: redis.Redis) -> StartRunner:
    """`start_runner(*engine_options)`: a runner with an engine process of its own."""

    @contextmanager
    def start(*options: str, polisher: Polisher | None = None) -> Iterator[ChunkRunner]:
        with tempfile.TemporaryDirectory(prefix="blipline-test-") as directory:
            socket = Path(directory, "engine.sock")
            process = subprocess.Popen([sys.executable, str(ECHO), str(socket), *options])
            engine = EngineClient(socket, wait_s=20)
            fetcher = Fetcher(
                connection, image_root=None, max_bytes=9999, timeout_s=1, policy=AddressPolicy()
            )
            try:
                engine.start()
                info = engine.info(20)
                images = ImageLoader(fetcher, engine, info, 1_000_000)
                cache, texts = ResultCache(connection, 60), TextPublisher(connection)
                pipeline = ItemPipeline(images, engine, cache, polisher, texts)
                yield ChunkRunner(Leases(connection), pipeline)
                texts.close()
            finally:
                engine.close()
                fetcher.close()
                process.kill()
                process.wait()

    return start


@pytest.fixture
def blob(connection: redis.Redis) -> str:
    """The reference of an uploaded image."""
    return blobs.upload(connection, Ledger(connection), [picture()])[0]
