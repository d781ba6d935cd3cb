"""`python -m benchmarks.bulk`: the queue's throughput and latency, with the demo model.

(1) 2,000 JPEGs of 640 x 480 as blobs through the real stack (client, Redis, consumer, engine,
    Redis, client), against a serial loop of decode and `generate` at its best batch size. The two
    take turns; every caption of the stack must equal the serial loop's.
(2) A lone job on the idle worker, against the model's own time for it.
(3) Publishing a batch of 200,000 URLs.
"""

from __future__ import annotations

import io
import os
import platform
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

import torch

from benchmarks.serial import Serial
from config.settings import DEMO_MODEL
from demo.scenes import draw, is_clear, random_scene
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

WIDTH, HEIGHT = 640, 480
T = TypeVar("T")
#: Every round asks the same again: nothing that is kept from an earlier one may help the worker.
SETTINGS = {
    "BLIPLINE_FEATURE_CACHE_MB": "0",
    "BLIPLINE_ANSWER_CACHE_S": "0",
    "BLIPLINE_MATCH_MODEL": "none",
}


def main() -> int:
    """Print a report; exit code 1 if any answer differs."""
    options = _options()
    note(f"drawing {options.images} pictures of {WIDTH} x {HEIGHT}")
    images = pictures(options.images, options.seed)
    serial = Serial(options.model)
    size = serial.best_size(images[:512])
    with (
        running_redis() as url,
        running_worker(url, {**SETTINGS, "BLIPLINE_MODEL": options.model}, quiet=True) as worker,
        Client(url) as client,
    ):
        through_stack(client, images[:256])  # warm
        print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}\n")
        wrong = bulk(serial, size, client, worker, images, options.rounds)
        lone(serial, client, images[:64])
    with running_redis() as url, Client(url) as client:
        publish(client, options.urls)
    return 1 if wrong else 0


def bulk(
    serial: Serial,
    size: int,
    client: Client,
    worker: Worker,
    images: Sequence[bytes],
    rounds: int,
) -> int:
    """Serial loop and stack in turns; returns the number of captions that differ."""
    ratios, wrong = [], 0
    before = figures(worker)
    for number in range(rounds):
        expected, serial_s = timed(lambda: serial.run(images, size))
        got, stack_s = timed(lambda: through_stack(client, images))
        differing = sum(a != b for a, b in zip(expected, got, strict=True))
        wrong += differing
        ratios.append(serial_s / stack_s)
        note(
            f"round {number + 1}: serial {len(images) / serial_s:.0f} img/s at batch {size}, "
            f"stack {len(images) / stack_s:.0f} img/s, ratio {ratios[-1]:.2f}, {differing} differ"
        )
    after = figures(worker)
    steps = after["steps"] - before["steps"]
    occupancy = (after["row_steps"] - before["row_steps"]) / steps
    print(f"bulk: {statistics.median(ratios):.2f} x the serial loop (median of {rounds} rounds)")
    print(f"captions that differ from the serial loop's: {wrong} of {rounds * len(images)}")
    print(f"batch occupancy: {occupancy:.1f} rows in an average step")
    return wrong


def lone(serial: Serial, client: Client, images: Sequence[bytes]) -> None:
    """One job at a time on an idle worker, against `generate` on one decoded image."""
    own, whole = [], []
    for image in images:
        pixels = serial.pixels([image])
        own.append(timed(partial(serial.captions, pixels))[1])
        whole.append(timed(partial(one_job, client, image))[1])
        time.sleep(0.02)
    own_ms, whole_ms = (statistics.median(one) * 1000 for one in (own, whole))
    print(
        f"lone job: {whole_ms:.1f} ms from submit to result, the model alone {own_ms:.1f} ms: "
        f"{whole_ms - own_ms:+.1f} ms (medians of {len(images)})"
    )


def one_job(client: Client, image: bytes) -> str:
    """Submit and poll."""
    return client.caption(image).result(timeout=60)


def publish(client: Client, count: int) -> None:
    """Submit URLs that nobody fetches."""
    urls = (f"https://images.example.com/collection/{n:09d}.jpg" for n in range(count))
    batch, seconds = timed(lambda: client.submit_batch(urls))
    assert batch.progress().total == count
    print(f"publishing {count:,} URLs: {count / seconds:,.0f} items/s")


def through_stack(client: Client, images: Sequence[bytes]) -> list[str | None]:
    """Upload, queue, wait: the captions in order."""
    batch = client.submit_batch(images)
    return [result.text for result in batch.results(timeout=120)]


def figures(worker: Worker) -> dict[str, float]:
    """The engine's own counters."""
    line = EngineClient(socket_path(worker.run_dir), wait_s=10)
    line.start()
    line.info(timeout_s=10)
    found = line.figures()
    line.close()
    if found is None:
        raise RuntimeError("the engine is away")
    return found


def pictures(count: int, seed: int) -> list[bytes]:
    """Encoded scenes of the demo's world."""
    rng = Random(seed)
    encoded: list[bytes] = []
    while len(encoded) < count:
        scene = random_scene(rng)
        if is_clear(scene, WIDTH, HEIGHT):
            file = io.BytesIO()
            draw(scene, WIDTH, HEIGHT).save(file, "JPEG", quality=88)
            encoded.append(file.getvalue())
    return encoded


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """A result and the seconds it took."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def note(text: str) -> None:
    """Progress, beside the report."""
    print(text, file=sys.stderr, flush=True)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--urls", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default=str(Path(DEMO_MODEL)))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
