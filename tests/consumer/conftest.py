"""A chunk runner with a real Redis and a real engine process that only echoes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
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


@pytest.fixture(scope="package")
def echo_socket() -> Iterator[Callable[..., Path]]:
    """`echo_socket(*options)`: the socket of an engine process with these options."""
    with ExitStack() as stack:

        @cache
        def start(*options: str) -> Path:
            # Not tmp_path: the path of a Unix socket has some hundred bytes at most.
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="blipline-test-"))
            socket = Path(directory, "engine.sock")
            process = subprocess.Popen([sys.executable, str(ECHO), str(socket), *options])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return socket

        yield start


@pytest.fixture
def start_runner(connection: redis.Redis, echo_socket: Callable[..., Path]) -> StartRunner:
    """`start_runner(*engine_options)`: a runner; those with equal options share an engine."""

    @contextmanager
    def start(*options: str, polisher: Polisher | None = None) -> Iterator[ChunkRunner]:
        engine = EngineClient(echo_socket(*options), wait_s=20)
        fetcher = Fetcher(
            connection, image_root=None, max_bytes=9999, timeout_s=1, policy=AddressPolicy()
        )
        try:
            engine.start()
            info = engine.info(20)
            images = ImageLoader(fetcher, engine, info, 1_000_000)
            results, texts = ResultCache(connection, 60), TextPublisher(connection)
            pipeline = ItemPipeline(images, engine, results, polisher, texts)
            yield ChunkRunner(Leases(connection), pipeline)
            texts.close()
        finally:
            engine.close()
            fetcher.close()

    return start


@pytest.fixture
def blob(connection: redis.Redis) -> str:
    """The reference of an uploaded image."""
    return blobs.upload(connection, Ledger(connection), [picture()])[0]
