"""`python -m benchmarks.recovery`: the recovery time after a process is killed.

In the middle of a batch, on the real stack with the demo model and the default lease and sweep:
(a) kill -9 of the bulk consumer, until all its running chunks have results;
(b) kill -9 of the engine, until a caption submitted at that moment has its answer, and until all
    running chunks have results.
No answer may be lost, and all must equal those of a plain loop of `generate`.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

import redis

from benchmarks.pictures import pictures
from benchmarks.processes import process_of
from benchmarks.serial import Serial
from benchmarks.stack import SETTINGS, one_job, through_stack
from benchmarks.timing import note, timed
from config.settings import DEMO_MODEL
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from producer.batch import Batch
from producer.ledger.keys import Keys
from worker.processes.child import STEADY_S

#: Seconds after which unfinished work counts as lost.
LOST_S = 300.0
#: Pause between two rounds, so that the supervisor resets its crash count.
REST_S = STEADY_S + 2
#: Share of a batch that is done when a process is killed.
MIDDLE = 0.3
KEYS = Keys()


class Trial:
    """Repeated kills of a stack's processes in the middle of a batch."""

    def __init__(
        self,
        client: Client,
        server: redis.Redis,
        worker: Worker,
        images: Sequence[bytes],
        expected: Sequence[str],
    ) -> None:
        self._client = client
        self._server = server
        self._worker = worker
        self._images = images
        self._expected = expected
        self.wrong = 0

    def consumer(self) -> float:
        """Kill the bulk consumer; return the seconds until its running chunks are done."""
        batch = self._partial_batch()
        chunks = self._kill("bulk")
        _, seconds = timed(lambda: self._wait_for(chunks))
        note(f"consumer killed with {len(chunks)} chunks: done after {seconds:.1f} s")
        self._check(batch)
        return seconds

    def engine(self) -> tuple[float, float]:
        """Kill the engine; return the seconds to the next answer and to all running chunks."""
        batch = self._partial_batch()
        chunks = self._kill("engine")
        started = time.perf_counter()
        text = one_job(self._client, self._images[0])
        answer_s = time.perf_counter() - started
        self.wrong += text != self._expected[0]
        self._wait_for(chunks)
        seconds = time.perf_counter() - started
        note(
            f"engine killed with {len(chunks)} chunks running: an answer after {answer_s:.1f} s, "
            f"all done after {seconds:.1f} s"
        )
        self._check(batch)
        return answer_s, seconds

    def _partial_batch(self) -> Batch:
        time.sleep(REST_S)
        batch = self._client.submit_batch(self._images)
        while batch.progress().done < MIDDLE * len(self._images):
            time.sleep(0.01)
        return batch

    def _kill(self, role: str) -> list[str]:
        """Kill a process and return the running chunks."""
        os.kill(process_of(self._worker, role), signal.SIGKILL)
        chunks = [str(task_id) for task_id in self._server.zrange(KEYS.running, 0, -1)]
        if not chunks:
            raise RuntimeError("no chunk was running; increase --images")
        return chunks

    def _wait_for(self, chunks: list[str]) -> None:
        deadline = time.monotonic() + LOST_S
        while any(score is not None for score in self._server.zmscore(KEYS.open, chunks)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not done after {LOST_S:g} s: {chunks}")
            time.sleep(0.05)

    def _check(self, batch: Batch) -> None:
        texts = [result.text for result in batch.results(timeout=LOST_S)]
        self.wrong += sum(
            text != expected for text, expected in zip(texts, self._expected, strict=True)
        )


def main() -> int:
    """Print a report; exit code 1 if any answer is wrong or a target is missed."""
    options = _options()
    images = pictures(options.images, options.seed)
    expected = Serial(str(DEMO_MODEL)).run(images, 64)
    with (
        running_redis() as url,
        running_worker(url, SETTINGS, quiet=True) as worker,
        Client(url) as client,
        redis.Redis.from_url(url, decode_responses=True) as server,
    ):
        through_stack(client, images[:256])  # warm
        trial = Trial(client, server, worker, images, expected)
        consumer = [trial.consumer() for _ in range(options.rounds)]
        engine = [trial.engine() for _ in range(options.rounds)]
    print(f"{os.cpu_count()} cores, {platform.machine()}; medians of {options.rounds} rounds\n")
    consumer_s = statistics.median(consumer)
    answer_s, all_s = (statistics.median(some) for some in zip(*engine, strict=True))
    print(
        f"kill -9 of the bulk consumer: its chunks are done after {consumer_s:.1f} s (target 150)"
    )
    print(
        f"kill -9 of the engine: the next answer after {answer_s:.1f} s (target 10), "
        f"all running chunks after {all_s:.1f} s"
    )
    print(f"captions that differ from the plain loop's: {trial.wrong}")
    return 1 if trial.wrong or consumer_s > 150 or answer_s > 10 else 0


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
