"""A process that fetches with many threads at once, as a consumer does, and says what it took.

Reads what to do as JSON from stdin: `redis_url`, `chunks` (lists of references), `room_bytes`,
`max_bytes`. Prints the growth of its largest size, and what became of each reference.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import redis

import worker.images.pillow  # noqa: F401 - as in a consumer, what is free goes back at once
from producer.net.address_policy import AddressPolicy
from worker.errors import ItemRejected
from worker.images.fetcher import Fetcher


def main() -> None:
    asked = json.load(sys.stdin)
    connection = redis.Redis.from_url(asked["redis_url"])
    fetcher = Fetcher(
        connection,
        image_root=None,
        max_bytes=asked["max_bytes"],
        timeout_s=60.0,
        guard=AddressPolicy(allow=["127.0.0.0/8"]),
        per_host=32,
        room_bytes=asked["room_bytes"],
    )
    chunks = asked["chunks"]
    outcomes: list[list[str]] = [[] for _ in chunks]
    before = peak_bytes()

    def fetch(place: int) -> None:
        images = fetcher.fetch(chunks[place])
        for _ in chunks[place]:
            outcomes[place].append(told(next(images)))
        images.close()

    threads = [threading.Thread(target=fetch, args=(place,)) for place in range(len(chunks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = peak_bytes() - before
    left = [room._taken for room in (fetcher._room.early, fetcher._room.due)]
    fetcher.close()
    print(json.dumps({"grown": grown, "outcomes": outcomes, "left": left}))


def told(image: bytes | ItemRejected) -> str:
    if isinstance(image, ItemRejected):
        return str(image.code)
    return f"{len(image)} of {image[:1].decode()}"


def peak_bytes() -> int:
    # What getrusage says begins with what the process had that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
