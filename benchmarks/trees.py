"""`python -m benchmarks.trees`: throughput with 1, 2 and 4 worker trees whose engines sleep.

Each tree is an engine that answers 32 rows a second and a real bulk consumer, which fetches and
decodes the images; all take chunks from one Redis. A rate that grows less than the number of trees
is lost in the queue or, on few cores, in the consumers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.sleeping_engine import ROWS, STEP_S
from benchmarks.timing import note
from demo.stack import ROOT, running_redis
from demo.tour import IMAGES
from producer import Client
from producer.batch import Batch

POLL_S: Final = 0.2
#: Seconds of work for each tree, of which the middle is measured.
WORK_S: Final = 40
CONSUMER: Final = ("celery", "-A", "worker.celery_app", "worker", "-c", "8", "-Q", "bulk")


def main() -> int:
    """Print the rate for each number of trees; exit code 1 if an item is lost."""
    parser = ArgumentParser(prog="python -m benchmarks.trees", description=__doc__)
    parser.add_argument("trees", nargs="*", type=int, default=[1, 2, 4])
    print(f"{os.cpu_count()} cores; an engine answers {ROWS / STEP_S:g} items/s\n")
    single = 0.0
    for count in parser.parse_args().trees:
        rate = rate_of(count)
        single = single or rate / count
        print(f"{count} trees: {rate:6.1f} items/s, {rate / single / count:.2f} of linear")
    return 0


def rate_of(count: int) -> float:
    """Return the items per second of so many trees while all of them are busy."""
    note(f"{count} trees")
    items = int(count * WORK_S * ROWS / STEP_S)
    image = (IMAGES / "scene-01.png").read_bytes()
    with running_redis() as url, Client(url) as client, ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_running_tree(url))
        batch = client.submit_batch([image] * items)
        rate = _rate_between(batch, items // 4, 3 * items // 4)
        results = list(batch.results(timeout=60))
    wrong = items - sum(result.text == "asleep" for result in results)
    if wrong:
        raise SystemExit(f"{wrong} of {items} items are lost or wrong")
    return rate


def _rate_between(batch: Batch, low: int, high: int) -> float:
    """Return the rate from the first progress of at least `low` items to that of `high`."""
    start = _at_least(batch, low)
    end = _at_least(batch, high)
    return (end[0] - start[0]) / (end[1] - start[1])


def _at_least(batch: Batch, items: int) -> tuple[int, float]:
    while (done := batch.progress().done) < items:
        time.sleep(POLL_S)
    return done, time.monotonic()


@contextmanager
def _running_tree(redis_url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="blipline-tree-") as run_dir:
        environment = {
            **os.environ,
            "BLIPLINE_REDIS_URL": redis_url,
            "BLIPLINE_RUN_DIR": str(Path(run_dir, "run")),
            # The same image in every item must be computed.
            "BLIPLINE_ANSWER_CACHE_S": "0",
        }
        commands = [["benchmarks.sleeping_engine", environment["BLIPLINE_RUN_DIR"]], list(CONSUMER)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in commands
        ]
        try:
            yield
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
