"""`python -m benchmarks.bulk`: the queue's throughput and latency, with the demo model.

(1) 2,000 JPEGs of 640 x 480 as blobs through the real stack (client, Redis, consumer, engine,
    Redis, client), against a serial loop of decode and `generate` at its best batch size. The two
    alternate; every caption of the stack must equal the serial loop's.
(2) A single job on an idle worker, against the model's own time for it.
(3) Publishing a batch of 200,000 URLs.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.pictures import HEIGHT, WIDTH, pictures
from benchmarks.serial import Serial
from benchmarks.stack import SETTINGS, engine_stats, one_job, through_stack
from benchmarks.timing import note, timed
from config.settings import DEMO_MODEL
from demo.stack import Worker, running_redis, running_worker
from producer import Client


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
    """Alternate serial loop and stack; return the number of captions that differ."""
    ratios, wrong = [], 0
    before = engine_stats(worker)
    for number in range(rounds):
        expected, serial_s = timed(lambda: serial.run(images, size))
        captions, stack_s = timed(lambda: through_stack(client, images))
        differing = sum(a != b for a, b in zip(expected, captions, strict=True))
        wrong += differing
        ratios.append(serial_s / stack_s)
        note(
            f"round {number + 1}: serial {len(images) / serial_s:.0f} img/s at batch {size}, "
            f"stack {len(images) / stack_s:.0f} img/s, ratio {ratios[-1]:.2f}, {differing} differ"
        )
    after = engine_stats(worker)
    steps = after["steps"] - before["steps"]
    occupancy = (after["row_steps"] - before["row_steps"]) / steps
    print(f"bulk: {statistics.median(ratios):.2f} x the serial loop (median of {rounds} rounds)")
    print(f"captions that differ from the serial loop's: {wrong} of {rounds * len(images)}")
    print(f"batch occupancy: {occupancy:.1f} rows in an average step")
    return wrong


def lone(serial: Serial, client: Client, images: Sequence[bytes]) -> None:
    """Compare single jobs on an idle worker with `generate` on one decoded image."""
    model, total = [], []
    for image in images:
        pixels = serial.pixels([image])
        model.append(timed(partial(serial.captions, pixels))[1])
        total.append(timed(partial(one_job, client, image))[1])
        time.sleep(0.02)
    model_ms, total_ms = (statistics.median(seconds) * 1000 for seconds in (model, total))
    print(
        f"lone job: {total_ms:.1f} ms from submit to result, the model alone {model_ms:.1f} ms: "
        f"{total_ms - model_ms:+.1f} ms (medians of {len(images)})"
    )


def publish(client: Client, count: int) -> None:
    """Submit URLs that no worker fetches."""
    urls = (f"https://images.example.com/collection/{n:09d}.jpg" for n in range(count))
    batch, seconds = timed(lambda: client.submit_batch(urls))
    assert batch.progress().total == count
    print(f"publishing {count:,} URLs: {count / seconds:,.0f} items/s")


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
