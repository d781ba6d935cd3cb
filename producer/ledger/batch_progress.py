"""The counts of any number of batches, read in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from ..results.progress import Progress
from .keys import Keys


def read_progress(
    client: redis.Redis, keys: Keys, batch_ids: Sequence[str]
) -> list[Progress | None]:
    """Return the progress of batches; None for one that does not exist or has expired.

    Raises redis-py's errors unchanged.
    """
    # No transaction: Redis rejects even its reads when memory is full.
    pipe = client.pipeline(transaction=False)
    for batch_id in batch_ids:
        pipe.hgetall(keys.batch(batch_id))
        pipe.exists(keys.cancelled(batch_id))
    pipe.time()
    *answers, (seconds, microseconds) = pipe.execute()
    now = seconds + microseconds / 1e6
    return [
        Progress.of(fields, bool(cancelled), now) if fields else None
        for fields, cancelled in zip(answers[::2], answers[1::2], strict=True)
    ]
