"""`python -m benchmarks.capfilt`: memory of `blipline capfilt` over any number of pairs.

A process answers in place of a worker, without a model, so that only the command and Redis are
measured. Prints the resident memory of the command and the memory of Redis at each tenth, and
checks that each pair has one line in the outputs.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import redis
from celery import Celery

from benchmarks.pictures import pictures
from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from demo.stack import ROOT, running_redis
from producer.ledger.leases import Leases

#: Seconds between two looks at the memory.
POLL_S: Final = 0.5
#: Distinct pictures of an archive.
PICTURES: Final = 100


def main() -> int:
    """Print a report; exit code 1 if a pair is missing or surplus."""
    parser = ArgumentParser(prog="python -m benchmarks.capfilt", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--archive", action="store_true", help="pictures in a tar instead of URLs")
    arguments = parser.parse_args()
    pairs = arguments.pairs
    with tempfile.TemporaryDirectory(prefix="blipline-capfilt-") as directory:
        accepted, rejected = (
            Path(directory, name) for name in ("accepted.jsonl", "rejected.jsonl")
        )
        write = write_archive if arguments.archive else write_lines
        source = write(Path(directory), pairs)
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


def write_lines(directory: Path, pairs: int) -> Path:
    """Write pairs of a URL and a text as JSON lines; return their file."""
    path = directory / "pairs.jsonl"
    with path.open("w") as file:
        for number in range(pairs):
            image = f"https://images.example.com/{number}.jpg"
            file.write(f"{json.dumps({'image': image, 'text': f'picture {number}'})}\n")
    return path


def write_archive(directory: Path, pairs: int) -> Path:
    """Write pairs of a picture and a text as WebDataset does; return their archive."""
    path, drawn = directory / "pairs.tar", pictures(PICTURES, seed=1)
    with tarfile.open(path, "w") as archive:
        for number in range(pairs):
            # Bytes after the end of a JPEG make it another file.
            image = drawn[number % PICTURES] + str(number).encode()
            for suffix, data in (("jpg", image), ("txt", f"picture {number}".encode())):
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


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
