"""A producer to be killed: it submits a batch slowly, and prints its progress.

`python -m tests.faults.producer REDIS_URL ORDER.json`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from producer import Client

#: Seconds for the whole batch, so that a kill can hit the middle.
SUBMIT_S: Final = 3.0


def main() -> None:
    """Submit the batch, and print the number of submitted items after each step."""
    redis_url, path = sys.argv[1:]
    order = json.loads(Path(path).read_text())
    with Client(redis_url) as client:
        client.submit_batch(
            _slowly(order["items"]),
            batch_id=order["batch_id"],
            chunk_items=order["chunk_items"],
            on_submitted=lambda total: print(total, flush=True),
        )


def _slowly(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        time.sleep(SUBMIT_S / len(items))
        yield item


if __name__ == "__main__":
    main()
