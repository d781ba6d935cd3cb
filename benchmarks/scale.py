"""`python -m benchmarks.scale`: the capacity of the queue itself, without a model.

(1) A million URLs are submitted, wait, are answered by workers with BLIPLINE_MODEL=null, read back
    in order and deleted. Every text must be its item's `custom_id`.
(2) Results are stored in the result cache.
(3) Images of 50 KB are transferred to a consumer: as uploads through Redis, and from a host.

Redis runs on one core, so each phase's share of it gives the capacity of one Redis. docs/scaling.md
derives a plan from these figures.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import redis

from benchmarks.processes import cpu_s, process_of
from benchmarks.producing import Submitted, in_process, submit_urls
from benchmarks.result_cache import result_cache_cost
from benchmarks.server import Phase, Reading, read, table
from benchmarks.timing import note, timed
from benchmarks.transport import from_a_host, through_redis
from demo.stack import Worker, running_redis, running_worker
from producer import Client
from producer.batch import Batch
from producer.contract import CHUNK_ITEMS, Queue
from producer.ledger.keys import Keys

MIB = 2**20
#: Seconds between two progress checks.
POLL_S = 0.1
KEYS = Keys()
NULL = {"BLIPLINE_MODEL": "null"}


@dataclass(frozen=True, slots=True)
class Life:
    """The phases of a batch, from submission to deletion."""

    submitted: Submitted
    submit: Phase
    consume: Phase
    #: Processor time of the bulk consumers during `consume`.
    consumers_s: float
    #: Mean number of chunks taken from Celery's list but not started, during `consume`.
    in_transit: float
    read: Phase
    delete: Phase
    #: Results that are missing, duplicated, out of order or wrong.
    wrong: int


def main() -> int:
    """Print a report; exit code 1 if any answer is wrong."""
    options = _options()
    durable = ("--appendonly", "yes") if options.append_only else ()
    with (
        running_redis(None, *durable) as url,
        Client(url) as client,
        redis.Redis.from_url(url) as server,
    ):
        version = server.info("server")["redis_version"]
        print(
            f"{os.cpu_count()} cores, {platform.machine()}, Redis {version}"
            f"{', append-only file' if options.append_only else ''}; {options.items:,} items in "
            f"chunks of {options.chunk_items}, workers: {options.workers}\n"
        )
        life = live(client, server, url, options)
        report(life, options.chunk_items)
        result_cache_cost(server, options.answers)
        through_redis(server, url, options.uploads, options.upload_bytes)
        from_a_host(server, options.uploads, options.upload_bytes)
        print(f"processor time of Redis's forks, in total: {read(server).forks_s:.1f} s")
    return 1 if life.wrong else 0


def live(client: Client, server: redis.Redis, url: str, options: Namespace) -> Life:
    """Run the phases one after the other, so that each has Redis for itself."""
    count = options.items
    empty = read(server)
    note("submitting")
    submitted = in_process(submit_urls, url, count, options.chunk_items)
    submit = Phase("submit", count, submitted.seconds, empty, read(server))
    batch = client.batch(submitted.batch_id)
    note("consuming")
    consume, consumers_s, in_transit = consumed(batch, server, url, options.workers)
    ended = read(server)
    note("reading")
    wrong, seconds = timed(lambda: wrong_results(batch, count))
    reading = Phase("read", count, seconds, ended, read(server))
    _, seconds = timed(batch.delete)
    delete = Phase("delete", count, seconds, reading.after, read(server))
    return Life(submitted, submit, consume, consumers_s, in_transit, reading, delete, wrong)


def consumed(
    batch: Batch, server: redis.Redis, url: str, workers: int
) -> tuple[Phase, float, float]:
    """Let workers answer a waiting batch, measured from when all of them are ready.

    Return the phase, the consumers' processor time, and the mean number of chunks in transit.
    """
    with ExitStack() as stack:
        trees = [stack.enter_context(running_worker(url, NULL, quiet=True)) for _ in range(workers)]
        before, started, done = read(server), time.perf_counter(), batch.progress().done
        consumers_s = -_consumers_s(trees)
        in_transit: list[int] = []
        while not (progress := batch.progress()).finished:
            in_transit.append(_in_transit(server))
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started
        consumers_s += _consumers_s(trees)
        items = progress.total - done
        if not in_transit:
            raise SystemExit("the batch ended before the workers were ready; increase --items")
        phase = Phase("consume", items, seconds, before, read(server))
        return phase, consumers_s, statistics.mean(in_transit)


def _in_transit(server: redis.Redis) -> int:
    pipe = server.pipeline(transaction=True)
    pipe.zcard(KEYS.released(Queue.BULK))
    pipe.llen(KEYS.queue(Queue.BULK))
    released, listed = pipe.execute()
    return int(released - listed)


def wrong_results(batch: Batch, count: int) -> int:
    """Count results that are not their item's `custom_id` or out of order, and missing ones."""
    wrong = number = 0
    for number, result in enumerate(batch.results(timeout=60), 1):
        expected = str(number - 1)
        wrong += not (result.text == result.custom_id == expected and result.index == number - 1)
    return wrong + abs(count - number)


def report(life: Life, chunk_items: int) -> None:
    """Print the figures and their targets."""
    submit, consume, items = life.submit, life.consume, life.submit.items
    phases = [submit, consume, life.read, life.delete]
    print(table(phases))
    print("(commands, scripts, and bytes in and out: of Redis, per item)\n")
    print(
        f"producer: {submit.rate:,.0f} items/s (target 100,000), "
        f"{items / life.submitted.cpu_s:,.0f} items per second of its own processor time"
    )
    print(
        f"  its peak memory: {life.submitted.early_bytes / MIB:.1f} MiB after a tenth, "
        f"{life.submitted.late_bytes / MIB:.1f} MiB at the end (target: flat)"
    )
    print(f"waiting: {submit.kept_bytes:.0f} bytes of Redis per item (target 250)")
    print(
        f"consumers: {1e6 * life.consumers_s / consume.items:.1f} µs of processor time per item, "
        f"{consume.items / life.consumers_s:,.0f} items/s a core"
    )
    pickup_ms = 1000 * life.in_transit * chunk_items / consume.rate
    core_s = sum(phase.cpu_s / phase.items for phase in phases)
    print(f"  from Celery's list to its start: {pickup_ms:.1f} ms a chunk")
    print(f"one Redis core would carry {1 / core_s:,.0f} items/s through all phases")
    print(f"results that are missing, duplicated, out of order or wrong: {life.wrong} of {items:,}")
    print(_memory(submit.before, life.read.before, life.delete) + "\n")


def _memory(empty: Reading, ended: Reading, delete: Phase) -> str:
    finished = ended.used_bytes - empty.used_bytes
    remaining = delete.after.used_bytes - empty.used_bytes
    return (
        f"finished: {finished / delete.items:.0f} bytes of Redis per item, "
        f"{finished / MIB:.1f} MiB; "
        f"{remaining / MIB:.2f} MiB after deletion, in {delete.seconds:.2f} s"
    )


def _consumers_s(trees: Sequence[Worker]) -> float:
    return sum(cpu_s(process_of(tree, "bulk")) for tree in trees)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--chunk-items", type=int, default=CHUNK_ITEMS)
    parser.add_argument("--workers", type=int, default=1, help="worker process trees")
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--upload-bytes", type=int, default=50_000)
    parser.add_argument(
        "--append-only",
        action="store_true",
        help="with Redis's append-only file, as in production",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
