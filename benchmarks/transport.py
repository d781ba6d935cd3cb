"""Transfer of image bytes to a consumer: through Redis, or from an HTTP host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import redis

from benchmarks.producing import in_process, submit_bytes
from benchmarks.server import Phase, read, table
from benchmarks.timing import note
from producer.contract import BLOB_SCHEME
from producer.ledger.keys import Keys
from producer.net.address_policy import AddressPolicy
from worker.images.fetcher import Fetcher


@dataclass(frozen=True, slots=True)
class Fetched:
    """Time of fetching some images."""

    seconds: float
    #: Processor time of the fetching process.
    cpu_s: float


def through_redis(server: redis.Redis, url: str, count: int, size: int) -> None:
    """Upload images as a producer does, and fetch them as a consumer does."""
    note("uploading")
    empty = read(server)
    submitted = in_process(submit_bytes, url, count, size)
    up = Phase("upload", count, submitted.seconds, empty, read(server))
    keys = Keys()
    start = len(keys.blob("")) - len(BLOB_SCHEME)
    references = [key[start:].decode() for key in server.scan_iter(keys.blob("*"), count=1000)]
    before = read(server)
    fetched = fetch(server, references, count, size)
    down = Phase("fetch", count, fetched.seconds, before, read(server))
    print(table([up, down]))
    print(
        f"uploads of {size:,} bytes: {up.rate * size / 1e6:,.0f} MB/s in, "
        f"{down.rate * size / 1e6:,.0f} MB/s out, of one process each; a Redis core would carry "
        f"{up.core_rate * size / 1e6:,.0f} and {down.core_rate * size / 1e6:,.0f} MB/s"
    )
    both = 1 / (1 / up.core_rate + 1 / down.core_rate)
    print(
        f"each takes {up.kept_bytes:,.0f} bytes of Redis; a core carries {both:,.0f}/s in and out"
    )
    print(
        f"processor time per image: {_ms(submitted.cpu_s, count)} of the producer, "
        f"{_ms(fetched.cpu_s, count)} of the consumer"
    )


def from_a_host(server: redis.Redis, count: int, size: int) -> None:
    """Fetch images over HTTP."""
    note("fetching from a host")
    with _host(size) as address:
        urls = [f"{address}/{number}" for number in range(count)]
        fetched = fetch(server, urls, count, size)
    print(
        f"from a host, over HTTP without TLS: {_ms(fetched.cpu_s, count)} of the consumer's "
        "processor time per image"
    )


def fetch(server: redis.Redis, references: Sequence[str], count: int, size: int) -> Fetched:
    """Fetch images as a consumer does. Raises RuntimeError if one has the wrong size."""
    guard = AddressPolicy(allow=["127.0.0.1"])
    fetcher = Fetcher(server, image_root=None, max_bytes=size, timeout_s=20, policy=guard)
    started, cpu_started = time.perf_counter(), time.process_time()
    sizes = [len(image) if isinstance(image, bytes) else 0 for image in fetcher.fetch(references)]
    fetched = Fetched(time.perf_counter() - started, time.process_time() - cpu_started)
    fetcher.close()
    if sizes != [size] * count:
        raise RuntimeError("an image is lost")
    return fetched


@contextmanager
def _host(size: int) -> Iterator[str]:
    """Run an image host in a separate process; yield its address."""
    context = get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=_serve, args=(sender, size), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection[Any, Any], size: int) -> None:
    image = os.urandom(size)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(image)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        pipe.send(host.server_port)
        host.serve_forever()


def _ms(seconds: float, count: int) -> str:
    return f"{1000 * seconds / count:.2f} ms"
