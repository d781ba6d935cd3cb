"""Jobs of the ledger's tests: items, messages that a consumer receives, and results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis

from producer.contract import ItemResult
from producer.ledger import Leases
from producer.ledger.keys import Keys

KEYS: Final = Keys()
#: Seconds of a lease that expires at once.
EXPIRED: Final = 0.0


def urls(count: int) -> Iterator[dict[str, str]]:
    """Yield items with an image and a custom id."""
    return ({"image": f"https://x/{n}.jpg", "custom_id": str(n)} for n in range(count))


def take_message(connection: redis.Redis, queue: str = "bulk") -> str:
    """Take the next message out of Celery's list, as a consumer does; return its task id."""
    popped: Any = connection.brpop([queue], 1)
    _, message = popped
    task_id: str = json.loads(message)["headers"]["id"]
    return task_id


def store_result(leases: Leases, task_id: str, results: Sequence[ItemResult]) -> None:
    """Finish a job, as the result backend does."""
    failed = sum("error" in result for result in results)
    stored = json.dumps({"status": "SUCCESS", "result": results, "task_id": task_id})
    leases.finish(task_id, stored, failed)
