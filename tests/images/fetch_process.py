"""A process that fetches with many threads, as a consumer does, and reports its memory.

Reads JSON from stdin: `redis_url`, `chunks` (lists of references), `budget_bytes`, `max_bytes`.
Prints the growth of its peak memory, and the outcome of each reference.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import redis

import worker.images.pillow  # noqa: F401 - as in a consumer, freed memory returns at once
from producer.net.address_policy import AddressPolicy
from worker.errors import ItemRejected
from worker.images.fetcher import Fetcher


def main() -> None:
    request = json.load(sys.stdin)
    connection = redis.Redis.from_url(request["redis_url"])
    fetcher = Fetcher(
        connection,
        image_root=None,
        max_bytes=request["max_bytes"],
        timeout_s=60.0,
        policy=AddressPolicy(allow=["127.0.0.0/8"]),
        per_host=32,
        budget_bytes=request["budget_bytes"],
    )
    chunks = request["chunks"]
    outcomes: list[list[str]] = [[] for _ in chunks]
    before = peak_bytes()

    def fetch(index: int) -> None:
        images = fetcher.fetch(chunks[index])
        for _ in chunks[index]:
            outcomes[index].append(outcome(next(images)))
        images.close()

    threads = [threading.Thread(target=fetch, args=(index,)) for index in range(len(chunks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = peak_bytes() - before
    reserved = [budget._used for budget in (fetcher._budget.prefetch, fetcher._budget.due)]
    fetcher.close()
    print(json.dumps({"grown": grown, "outcomes": outcomes, "reserved": reserved}))


def outcome(image: bytes | ItemRejected) -> str:
    if isinstance(image, ItemRejected):
        return str(image.code)
    return f"{len(image)} of {image[:1].decode()}"


def peak_bytes() -> int:
    # getrusage includes the peak of the parent process.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
