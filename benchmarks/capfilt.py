"""`python -m benchmarks.capfilt`: memory of `blipline capfilt` over any number of pairs.

A process answers in place of a worker, without a model, so that only the command and Redis are
measured. Prints the resident memory of the command and the memory of Redis at each tenth, and
checks that each pair has one line in the outputs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import redis
from celery import Celery

from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from demo.stack import ROOT, running_redis
from producer.ledger.leases import Leases

#: Seconds between two looks at the memory.
POLL_S: Final = 0.5


def main() -> int:
    """Print a report; exit code 1 if a pair is missing or surplus."""
    parser = ArgumentParser(prog="python -m benchmarks.capfilt", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="blipline-capfilt-") as directory:
        source, accepted, rejected = (
            Path(directory, name) for name in ("pairs.jsonl", "accepted.jsonl", "rejected.jsonl")
        )
        with source.open("w") as file:
            file.writelines(lines(pairs))
        with running_redis() as url, redis.Redis.from_url(url) as connection:
            program = f"from benchmarks.capfilt import answer; answer({url!r})"
            with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as responder:
                command = [sys.executable, "-m", "producer.cli", "capfilt", str(source)]
                command += ["-o", str(accepted), "--rejected", str(rejected), "--captions", "0"]
                environment = {**os.environ, "BLIPLINE_REDIS_URL": url}
                started = time.perf_counter()
                with subprocess.Popen(
                    command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
                ) as process:
                    memory = list(watch(process, connection))
                seconds = time.perf_counter() - started
                responder.terminate()
        written = sum(path.read_bytes().count(b"\n") for path in (accepted, rejected))
    print(f"{pairs:,} pairs in {seconds:,.0f} s, {pairs / seconds:,.0f} pairs/s")
    for name, column in (("command", 0), ("Redis", 1)):
        sizes = [sample[column] for sample in memory]
        tenths = [sizes[len(sizes) * tenth // 10] for tenth in range(1, 10)] if sizes else [0.0]
        listed = ", ".join(f"{size:.1f}" for size in tenths)
        print(f"MiB of {name}: {listed}; {max(sizes, default=0):.1f} max")
    print(f"lines written: {written:,}")
    return int(process.returncode != 0 or written != pairs)


def lines(pairs: int) -> Iterator[str]:
    """Yield the lines of a file of pairs."""
    for number in range(pairs):
        pair = {"image": f"https://images.example.com/{number}.jpg", "text": f"picture {number}"}
        yield f"{json.dumps(pair)}\n"


def watch(
    process: subprocess.Popen[bytes], connection: redis.Redis
) -> Iterator[tuple[float, float]]:
    """Yield the MiB of the command and of Redis while the command runs."""
    while process.poll() is None:
        info: Any = connection.info("memory")
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        yield pages * os.sysconf("SC_PAGE_SIZE") / 2**20, info["used_memory"] / 2**20
        time.sleep(POLL_S)


def answer(url: str) -> None:
    """Answer the messages of a queue in place of a worker: every third text is wrong."""
    app = Celery("benchmark", set_as_current=False)
    app.conf.update(celery_settings(WorkerSettings(redis_url=url)))
    with redis.Redis.from_url(url) as connection:
        leases = Leases(connection)
        while True:
            message: Any = connection.brpop(["bulk"], timeout=1)
            if message is None:
                continue
            task_id = json.loads(message[1])["headers"]["id"]
            payload = leases.claim(task_id).payload
            if payload is not None:
                results = [_result(item, n) for n, item in enumerate(payload["items"])]
                app.backend.store_result(task_id, results, "SUCCESS")


def _result(item: Mapping[str, Any], number: int) -> dict[str, Any]:
    (text,) = item["texts"]
    score = {"text": text, "probability": 0.9, "cosine": 0.3, "source": "web"}
    accepted = number % 3 > 0
    return {
        "text": text if accepted else "",
        "accepted": [score] if accepted else [],
        "rejected": [] if accepted else [{**score, "probability": 0.1}],
    }


if __name__ == "__main__":
    sys.exit(main())
