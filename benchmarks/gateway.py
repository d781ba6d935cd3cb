"""`python -m benchmarks.gateway`: the capacity of one gateway process, without a model.

(1) Jobs are submitted, and polled while they wait and when they are done, on keep-alive
    connections.
(2) A batch is uploaded, plain and compressed, answered by a worker with BLIPLINE_MODEL=null, and
    read back. Every text must be its line's `custom_id`.
(3) Many pollers and many event streams follow one batch while it is uploaded and answered. Each
    stream with results must receive every result exactly once.

Requests come from a separate process, which shares the processor with the gateway and Redis. The
processor time of each per request is printed next to the rate. No rate limit is set.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import redis

from benchmarks.gateway_crowd import Observations, Scene, run_scene
from benchmarks.gateway_load import download, poll, submit, upload
from benchmarks.gateway_process import Bench, Cost, fresh
from benchmarks.http_load import Load
from benchmarks.producing import in_process
from benchmarks.timing import note, percentile
from demo.stack import running_redis, running_worker

MIB: Final = 2**20
NULL: Final = {"BLIPLINE_MODEL": "null"}
#: Requests per second.
TARGETS: Final = {"submit": 1500, "poll, queued": 3000, "poll, done": 3000}
#: Seconds between two progress checks of a batch.
POLL_S: Final = 0.02


def main() -> int:
    """Print a report; exit code 1 if any answer is wrong."""
    options, wrong = _options(), 0
    with running_redis() as url, redis.Redis.from_url(url) as server:
        version = server.info("server")["redis_version"]
        print(
            f"{os.cpu_count()} cores, {platform.machine()}, Redis {version}, "
            f"Python {platform.python_version()}; one gateway process\n"
        )
        for part in (requests, uploads, together):
            if options.only in (None, part.__name__):
                with fresh(url, server) as bench:
                    wrong += part(bench, options)
    return 1 if wrong else 0


def requests(bench: Bench, options: Namespace) -> int:
    """Run part (1). Every part returns its number of errors, or exits on a fatal one."""
    print(
        f"{options.connections} connections\n{'':<16}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'gateway':>10}{'Redis':>8}{'client':>8} µs of processor time per request"
    )
    site, connections = bench.site, options.connections
    note("submitting jobs")
    # The first requests warm up the gateway.
    in_process(submit, site, 200, connections)
    (load, ids), cost = bench.measure_cost(
        partial(in_process, submit, site, options.jobs, connections)
    )
    if len(set(ids)) != options.jobs:
        raise SystemExit("two jobs have the same id")
    _line("submit", load, cost)
    _polls(bench, ids, options, "queued")
    with running_worker(bench.redis_url, NULL, quiet=True):
        note("answering them")
        while bench.open_jobs():
            time.sleep(POLL_S)
    _polls(bench, ids, options, "done")
    return 0


def _polls(bench: Bench, ids: list[str], options: Namespace, status: str) -> None:
    note(f"polling jobs that are {status}")
    (load, statuses), cost = bench.measure_cost(
        partial(in_process, poll, bench.site, ids, options.polls, options.connections)
    )
    if set(statuses) != {status}:
        raise SystemExit(f"polls returned {dict(statuses)}, not {status} alone")
    _line(f"poll, {status}", load, cost)


def _line(name: str, load: Load, cost: Cost) -> None:
    count = len(load.latencies)
    p50, p99 = (1000 * percentile(load.latencies, percent) for percent in (50, 99))
    costs = (cost.gateway, cost.redis, load.cpu_s)
    gateway, server, client = (1e6 * seconds / count for seconds in costs)
    print(
        f"{name:<16}{load.rate:>10,.0f}{p50:>9.1f}{p99:>9.1f}{gateway:>10.0f}{server:>8.0f}"
        f"{client:>8.0f}   (target {TARGETS[name]:,} a second)",
        flush=True,
    )


def uploads(bench: Bench, options: Namespace) -> int:
    """Run part (2)."""
    print(f"\na batch of {options.lines:,} lines; the gateway's memory at its peak so far")
    for gzipped in (False, True):
        batch_id = "zipped" if gzipped else "plain"
        note(f"uploading: {batch_id}")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(in_process, upload, bench.site, batch_id, options.lines, gzipped)
            early = _peak_at(bench, batch_id, options.lines // 10)
            sent = future.result()
        if sent.batch["request_counts"]["total"] != options.lines:
            raise SystemExit(f"lines are missing: {sent.batch}")
        print(
            f"upload, {batch_id:<8}{options.lines / sent.seconds:>10,.0f} lines/s, "
            f"{sent.size / MIB:.1f} MiB sent; memory {early / MIB:.1f} MiB after a tenth, "
            f"{bench.peak_bytes() / MIB:.1f} MiB at the end",
            flush=True,
        )
        if not gzipped:
            bench.delete(batch_id)
    return _read_back(bench, batch_id, options.lines)


def _peak_at(bench: Bench, batch_id: str, items: int) -> int:
    """Return the gateway's peak memory once the batch has so many items."""
    while bench.batch(batch_id).get("request_counts", {"total": 0})["total"] < items:
        time.sleep(POLL_S)
    return bench.peak_bytes()


def _read_back(bench: Bench, batch_id: str, count: int) -> int:
    note("answering it")
    with running_worker(bench.redis_url, NULL, quiet=True):
        while bench.batch(batch_id)["request_counts"]["completed"] < count:
            time.sleep(10 * POLL_S)
    note("reading it")
    seconds, wrong = in_process(download, bench.site, batch_id, count)
    print(
        f"results         {count / seconds:>10,.0f} lines/s; missing or wrong: {wrong}; memory "
        f"{bench.peak_bytes() / MIB:.1f} MiB"
    )
    bench.delete(batch_id)
    return wrong


def together(bench: Bench, options: Namespace) -> int:
    """Run part (3)."""
    scene = Scene(
        bench.site,
        "crowded",
        int(options.seconds * options.items_a_second),
        options.items_a_second,
        options.pollers,
        options.pause_s,
        options.streams,
        options.full_streams,
    )
    print(
        f"\n{scene.pollers} pollers, a request every {scene.pause_s:g} s each, and "
        f"{scene.streams} streams, {scene.full_streams} of them with results, while "
        f"{scene.items:,} items are uploaded and answered, {scene.items_a_second:,} a second"
    )
    note("all at once")
    with running_worker(bench.redis_url, NULL, quiet=True):
        observed, cost = bench.measure_cost(partial(in_process, run_scene, scene))
    _report_crowd(observed, cost, scene)
    errors = observed.errors
    print(f"memory {bench.peak_bytes() / MIB:.1f} MiB; wrong or unanswered: {errors.total()}")
    for error, count in errors.most_common(5):
        print(f"  {count} x {error}")
    return errors.total()


def _report_crowd(observed: Observations, cost: Cost, scene: Scene) -> None:
    polls = observed.polls
    p50, p99, worst = (1000 * percentile(polls.latencies, percent) for percent in (50, 99, 100))
    events = ", ".join(f"{count:,} {name}" for name, count in observed.events.most_common())
    shares = (f"{name} {seconds / polls.seconds:.0%}" for name, seconds in _shares(cost, polls))
    print(
        f"{polls.rate:,.0f} polls/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms (target 250), worst "
        f"{worst:.1f} ms\n"
        f"events: {events}; {scene.items * scene.full_streams:,} results expected\n"
        f"{polls.seconds:.1f} s; of a core: {', '.join(shares)}"
    )


def _shares(cost: Cost, polls: Load) -> Iterator[tuple[str, float]]:
    yield "gateway", cost.gateway
    yield "Redis", cost.redis
    yield "client", polls.cpu_s


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--polls", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--pollers", type=int, default=500)
    parser.add_argument("--pause-s", type=float, default=1.0, help="pause of a poller")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--full-streams", type=int, default=20, help="streams with results")
    parser.add_argument("--seconds", type=float, default=20, help="duration of part (3)")
    parser.add_argument("--items-a-second", type=int, default=1000)
    parser.add_argument("--only", choices=("requests", "uploads", "together"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
