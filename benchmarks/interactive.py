"""`python -m benchmarks.interactive`: how long somebody waits while bulk saturates the worker.

The demo model on the real stack. Captions of single images, one after another with a rest of random
length, on the idle worker and again while a batch of distinct JPEGs of 640 x 480 keeps it busy.
Every caption, of the batch as well, must equal a plain loop's of `generate`.

The measure is one batch's time: what a full batch of MAX_ROWS images takes at the throughput that
bulk has beside the interactive jobs.
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
from benchmarks.stack import SETTINGS, figures, one_job, through_stack
from benchmarks.timing import note, percentile, timed
from config.settings import DEMO_MODEL
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from producer.batch import Batch

#: Rows of a full batch: the default of BLIPLINE_MAX_ROWS.
MAX_ROWS = 64
#: Seconds between two interactive jobs at most, so that they come at any moment of a step.
REST_S = 0.1
#: Seconds that the batch runs before it counts: its first chunks have the worker to themselves.
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Interactive jobs of one stretch of time."""

    seconds: list[float]
    wrong: int

    def ms(self, percent: float) -> float:
        """So many percent of them had their answer within this time."""
        return 1000 * percentile(self.seconds, percent)

    def __str__(self) -> str:
        p50, p99, worst = (self.ms(percent) for percent in (50, 99, 100))
        return (
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms ({len(self.seconds)} jobs)"
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """How far bulk is."""

    at: float
    images: int
    finished: bool
    #: Processor time of bulk's consumer.
    consumer_s: float
    engine: dict[str, float]


class Demand:
    """What is asked of one worker."""

    def __init__(self, client: Client, worker: Worker, images: Sequence[bytes], seed: int) -> None:
        self._client = client
        self._worker = worker
        self._images = images
        self._rng = Random(seed)
        note("the plain loop")
        self._expected = Serial(str(DEMO_MODEL)).run(images, MAX_ROWS)

    def ask(self, seconds: float) -> Asked:
        """Single captions for so long."""
        taken, wrong = [], 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            place = self._rng.randrange(len(self._images))
            text, job_s = timed(partial(one_job, self._client, self._images[place]))
            taken.append(job_s)
            wrong += text != self._expected[place]
            time.sleep(self._rng.uniform(0, REST_S))
        return Asked(taken, wrong)

    def rate(self, count: int) -> float:
        """Images a second of bulk alone."""
        images = self._images[:count]
        through_stack(self._client, images)  # warm
        return len(images) / timed(lambda: through_stack(self._client, images))[1]

    def flood(self, count: int) -> Batch:
        """Bulk, all of it queued now: the images round and round."""
        rounds = -(-count // len(self._images))
        return self._client.submit_batch(chain.from_iterable(repeat(self._images, rounds)))

    def moment(self, batch: Batch) -> Moment:
        """How far it is now."""
        progress, consumer = batch.progress(), process_of(self._worker, "bulk")
        return Moment(
            time.perf_counter(),
            progress.done,
            progress.finished,
            cpu_s(consumer),
            figures(self._worker),
        )

    def wrong_captions(self, batch: Batch) -> int:
        """Ends the batch; of its captions so far those that differ."""
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
        idle = demand.ask(options.seconds / 3)
        note("a worker that bulk saturates")
        # Twice what the worker can do meanwhile.
        batch = demand.flood(int(2 * (options.seconds + SETTLE_S) * alone))
        time.sleep(SETTLE_S)
        before = demand.moment(batch)
        saturated = demand.ask(options.seconds)
        after = demand.moment(batch)
        wrong = idle.wrong + saturated.wrong + demand.wrong_captions(batch)
    print(f"idle: {idle}\nsaturated: {saturated}")
    report(saturated, before, after, alone)
    print(f"captions that differ from the plain loop's: {wrong}")
    return 1 if wrong or after.finished else 0


def report(saturated: Asked, before: Moment, after: Moment, alone: float) -> None:
    """Bulk's side, and the target."""
    images = after.images - before.images
    rate = images / (after.at - before.at)
    steps = after.engine["steps"] - before.engine["steps"]
    step_ms = 1000 * (after.engine["busy_s"] - before.engine["busy_s"]) / steps
    rows = (after.engine["row_steps"] - before.engine["row_steps"]) / steps
    consumer_ms = 1000 * (after.consumer_s - before.consumer_s) / images
    batch_ms = 1000 * MAX_ROWS / rate
    print(f"bulk: {rate:.0f} img/s beside it, {alone:.0f} alone")
    print(f"  its consumer: {consumer_ms:.2f} ms of processor time an image")
    print(f"  a step of the engine: {step_ms:.1f} ms, of {rows:.1f} rows")
    print(f"one batch's time: {MAX_ROWS} images at {rate:.0f} img/s, {batch_ms:.0f} ms")
    print(f"interactive p99: {saturated.ms(99) / batch_ms:.2f} x one batch's time (target 3)")
    if after.finished:
        print("bulk ended too early: these are not the figures of a saturated worker")


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.interactive", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60, help="of interactive jobs beside bulk")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
