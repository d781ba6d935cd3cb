"""`python -m benchmarks.stack_soak`: steady work in the whole stack, and what it leaves behind.

Redis, a worker with the demo model and a gateway run while batches, single jobs of a client and
requests over HTTP follow each other. Prints the memory, file handles, threads, connections and keys
of every process in the second half of the items, with their slopes. The exit code is 1 if an answer
is wrong or missing, a process was restarted, a number of handles, threads or connections grows, or
Redis keeps keys of deleted jobs.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import httpx
import redis

from benchmarks.pictures import pictures
from benchmarks.process_samples import Sample, Trend, take_sample, trends
from demo.stack import running_gateway, running_redis, running_worker
from producer import Client
from producer.gateway.access.api_keys import ApiKeys

PICTURES: Final = 48
BATCH_ITEMS: Final = 500
QUESTION: Final = "what color is the background?"
#: Seconds between samples, between jobs of a user, and until the last results must be there.
SAMPLE_S, THINK_S, PATIENCE_S = 5.0, 0.05, 300.0
#: Growth of a count that is no leak: connections come and go.
MARGIN: Final = 4
#: Keys that stay: registries, and one for each deleted batch, which lasts a day.
LASTING: Final = re.compile(
    r"_kombu\.|blipline:(api-keys|cancelled:…|sweeper|webhook-secrets|workers)$"
)
#: Seconds after which cached results and uploads have expired.
IDLE_S: Final = 150.0
#: The result cache fills its limit early, and no answer is a look-up for long.
SETTINGS: Final = {"BLIPLINE_ANSWER_CACHE_MB": "4", "BLIPLINE_ANSWER_CACHE_S": "60"}


class Load:
    """Threads that submit work until `stop`, and compare each answer with the first one."""

    def __init__(self, redis_url: str, gateway: httpx.Client) -> None:
        self.items = 0
        self.faults: list[str] = []
        self._images = pictures(PICTURES, seed=4)
        self._client = Client(redis_url)
        self._gateway = gateway
        self._answers: dict[tuple[int, str], str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        actions = (self._batches, self._batches, self._jobs, self._requests)
        self._threads = [threading.Thread(target=self._guard, args=(act,)) for act in actions]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Submit nothing more, and wait for all results."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self.faults += [f"{t.name} did not end" for t in self._threads if t.is_alive()]
        self._client.close()

    def _guard(self, action: Callable[[int], None]) -> None:
        turn = 0
        try:
            while not self._stop.is_set():
                action(turn)
                turn += 1
        except Exception as error:
            self.faults.append(f"{action.__name__}: {type(error).__name__}: {error}")

    def _batches(self, turn: int) -> None:
        """Run a batch of captions and answers, read it and delete it."""
        numbers = [(turn * 7 + number) % PICTURES for number in range(BATCH_ITEMS)]
        positions = list(enumerate(numbers))
        # A greedy text does not depend on the seed, the result cache does: the engine works.
        options = [{"max_new_tokens": 6 + position % 12, "seed": turn} for position, _ in positions]
        items: list[dict[str, Any]] = [
            {"image": self._images[n], "task": "vqa", "question": QUESTION, "options": options[-1]}
            if position % 3 == 0
            else {"image": self._images[n], "options": options[position]}
            for position, n in positions
        ]
        batch = self._client.submit_batch(items)
        results = list(batch.results(timeout=PATIENCE_S))
        for number, item, result in zip(numbers, items, results, strict=True):
            kind = item.get("question") or f"caption {item['options']['max_new_tokens']}"
            self._compare(number, kind, result.text if result.ok else f"error {result.error}")
        batch.delete()

    def _jobs(self, turn: int) -> None:
        """Ask about an image as a program with the client does."""
        number = turn % PICTURES
        job = self._client.ask(self._images[number], QUESTION)
        self._compare(number, QUESTION, job.result(timeout=PATIENCE_S))
        job.delete()
        self._stop.wait(THINK_S)

    def _requests(self, turn: int) -> None:
        """Caption an image over HTTP, and erase the job."""
        number = turn % PICTURES
        response = self._gateway.post(
            "/v1/caption",
            params={"max_new_tokens": 9},
            content=self._images[number],
            headers={"Content-Type": "image/jpeg", "Prefer": "wait=60"},
        )
        job = response.raise_for_status().json()
        self._compare(number, "caption 9", job["output"]["text"])
        erased = self._gateway.delete(f"/v1/jobs/{job['id']}", params={"erase": True})
        erased.raise_for_status()
        self._stop.wait(THINK_S)

    def _compare(self, number: int, kind: str, text: str | None) -> None:
        with self._lock:
            self.items += 1
            first = self._answers.setdefault((number, kind), str(text))
            if first != text or first.startswith("error"):
                self.faults.append(f"picture {number}, {kind}: {text!r}, first {first!r}")


def main() -> int:
    """Print a report; return the exit code."""
    parser = ArgumentParser(prog="python -m benchmarks.stack_soak", description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=60, help="maximum duration [60]")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = stack.enter_context(running_redis())
        stack.enter_context(running_worker(url, SETTINGS, quiet=True))
        limits = {"BLIPLINE_PAGE": "false", "BLIPLINE_GATEWAY_RATE": "0"}
        address = stack.enter_context(running_gateway(url, settings=limits))
        connection = stack.enter_context(redis.Redis.from_url(url))
        key = ApiKeys(connection).create("soak")
        headers = {"Authorization": f"Bearer {key}"}
        gateway = stack.enter_context(httpx.Client(base_url=address, headers=headers, timeout=90))
        load = Load(url, gateway)
        started = time.monotonic()
        samples = run(load, connection, options.items, started + 60 * options.minutes)
        seconds = time.monotonic() - started
        time.sleep(IDLE_S)
        remaining = Counter(kind_of(key) for key in connection.scan_iter(count=1000))
    print(f"{load.items:,} items in {seconds / 60:.1f} minutes, {load.items / seconds:.0f} items/s")
    courses = trends(samples)
    print(table(courses))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(remaining.items()))
    print(f"keys {IDLE_S:g} s after the last job: {kinds}")
    faults = load.faults + [
        f"{course.name} grows from {course.first:.0f} to {course.last:.0f}"
        for course in courses
        if course.is_count and course.last > course.first + MARGIN
    ]
    faults += [
        f"{remaining[kind]} {kind} in Redis" for kind in remaining if not LASTING.match(kind)
    ]
    print("\n".join(f"FAULT: {fault:.200}" for fault in faults[:20]) or "no fault")
    return int(bool(faults))


def kind_of(key: bytes) -> str:
    """Return a key without ids and digests."""
    return re.sub(r"[0-9a-f-]{8,}.*", "…", key.decode(errors="replace"))


def run(load: Load, connection: redis.Redis, items: int, deadline: float) -> list[Sample]:
    """Run the load; return the samples."""
    samples = [take_sample(0, connection)]
    load.start()
    while load.items < items and time.monotonic() < deadline and not load.faults:
        time.sleep(SAMPLE_S)
        samples.append(take_sample(load.items, connection))
        if samples[-1].values.keys() < samples[0].values.keys():
            load.faults.append("a process is missing")
    load.stop()
    return samples


def table(courses: list[Trend]) -> str:
    """Return the trends as a Markdown table."""
    lines = ["| | after half | at the end | for each 10,000 items |", "|---|---|---|---|"]
    lines += [f"| {c.name} | {c.first:.1f} | {c.last:.1f} | {c.slope:+.2f} |" for c in courses]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
