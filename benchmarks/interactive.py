"""`python -m benchmarks.interactive`: interactive latency while bulk saturates the worker.

The demo model on the real stack captions single images, one after another with random pauses, first
on the idle worker and then while a batch of distinct JPEGs of 640 x 480 saturates it. Every
caption, including those of the batch, must equal that of a plain loop of `generate`.

The unit is the time of one full forward batch of MAX_ROWS images at the bulk throughput during the
interactive jobs.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from random import Random

import torch

from benchmarks.pictures import HEIGHT, WIDTH, pictures
from benchmarks.processes import cpu_s, process_of
from benchmarks.serial import Serial
from benchmarks.stack import SETTINGS, engine_stats, one_job, through_stack
from benchmarks.timing import note, percentile, timed
from config.settings import DEMO_MODEL
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from producer.batch import Batch

#: Rows of a full forward batch: the default of BLIPLINE_MAX_ROWS.
MAX_ROWS = 64
#: Maximum pause between two interactive jobs, so that they arrive at any moment of a step.
REST_S = 0.1
#: Seconds before the measurement starts: the batch's first chunks must have started.
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of the interactive jobs of one period."""

    seconds: list[float]
    wrong: int

    def ms(self, percent: float) -> float:
        """Return a percentile of the latency in milliseconds."""
        return 1000 * percentile(self.seconds, percent)

    def __str__(self) -> str:
        p50, p99, worst = (self.ms(percent) for percent in (50, 99, 100))
        return (
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms ({len(self.seconds)} jobs)"
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Progress and processor time of bulk at one moment."""

    time_s: float
    images: int
    finished: bool
    #: Processor time of bulk's consumer.
    consumer_s: float
    engine: dict[str, float]


class Demand:
    """Interactive and bulk work for one worker."""

    def __init__(self, client: Client, worker: Worker, images: Sequence[bytes], seed: int) -> None:
        self._client = client
        self._worker = worker
        self._images = images
        self._rng = Random(seed)
        note("the plain loop")
        self._expected = Serial(str(DEMO_MODEL)).run(images, MAX_ROWS)

    def run_interactive(self, seconds: float) -> Latencies:
        """Caption single images for some seconds."""
        latencies, wrong = [], 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            index = self._rng.randrange(len(self._images))
            text, job_s = timed(partial(one_job, self._client, self._images[index]))
            latencies.append(job_s)
            wrong += text != self._expected[index]
            time.sleep(self._rng.uniform(0, REST_S))
        return Latencies(latencies, wrong)

    def rate(self, count: int) -> float:
        """Return bulk's images per second without interactive jobs."""
        images = self._images[:count]
        through_stack(self._client, images)  # warm
        return len(images) / timed(lambda: through_stack(self._client, images))[1]

    def submit_bulk(self, count: int) -> Batch:
        """Submit a batch that repeats the images."""
        rounds = -(-count // len(self._images))
        return self._client.submit_batch(chain.from_iterable(repeat(self._images, rounds)))

    def snapshot(self, batch: Batch) -> Snapshot:
        """Read the present progress."""
        progress, consumer = batch.progress(), process_of(self._worker, "bulk")
        return Snapshot(
            time.perf_counter(),
            progress.done,
            progress.finished,
            cpu_s(consumer),
            engine_stats(self._worker),
        )

    def wrong_captions(self, batch: Batch) -> int:
        """Cancel the batch and count its wrong captions so far."""
        batch.cancel()
        return sum(
            result.ok and result.text != self._expected[result.index % len(self._expected)]
            for result in batch.results(timeout=60, as_completed=True)
        )


def main() -> int:
    """Print a report; exit code 1 if any answer is wrong, or bulk did not last."""
    options = _options()
    note(f"drawing {options.images} pictures of {WIDTH} x {HEIGHT}")
    images = pictures(options.images, options.seed)
    with (
        running_redis() as url,
        running_worker(url, SETTINGS, quiet=True) as worker,
        Client(url) as client,
    ):
        demand = Demand(client, worker, images, options.seed)
        alone = demand.rate(512)
        print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}\n")
        note("an idle worker")
        idle = demand.run_interactive(options.seconds / 3)
        note("a worker that bulk saturates")
        # Twice as much as the worker can do meanwhile.
        batch = demand.submit_bulk(int(2 * (options.seconds + SETTLE_S) * alone))
        time.sleep(SETTLE_S)
        before = demand.snapshot(batch)
        saturated = demand.run_interactive(options.seconds)
        after = demand.snapshot(batch)
        wrong = idle.wrong + saturated.wrong + demand.wrong_captions(batch)
    print(f"idle: {idle}\nsaturated: {saturated}")
    report(saturated, before, after, alone)
    print(f"captions that differ from the plain loop's: {wrong}")
    return 1 if wrong or after.finished else 0


def report(saturated: Latencies, before: Snapshot, after: Snapshot, alone: float) -> None:
    """Print bulk's figures and the target."""
    images = after.images - before.images
    rate = images / (after.time_s - before.time_s)
    steps = after.engine["steps"] - before.engine["steps"]
    step_ms = 1000 * (after.engine["busy_s"] - before.engine["busy_s"]) / steps
    rows = (after.engine["row_steps"] - before.engine["row_steps"]) / steps
    consumer_ms = 1000 * (after.consumer_s - before.consumer_s) / images
    batch_ms = 1000 * MAX_ROWS / rate
    print(f"bulk: {rate:.0f} img/s during interactive jobs, {alone:.0f} without")
    print(f"  its consumer: {consumer_ms:.2f} ms of processor time per image")
    print(f"  a step of the engine: {step_ms:.1f} ms, of {rows:.1f} rows")
    print(f"one batch's time: {MAX_ROWS} images at {rate:.0f} img/s, {batch_ms:.0f} ms")
    print(f"interactive p99: {saturated.ms(99) / batch_ms:.2f} x one batch's time (target 3)")
    if after.finished:
        print("bulk ended too early: the worker was not saturated")


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.interactive", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument(
        "--seconds", type=float, default=60, help="seconds of interactive jobs during bulk"
    )
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
