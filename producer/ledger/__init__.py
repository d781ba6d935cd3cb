"""The job store in Redis.

Every job without a result is in `open` and in exactly one of three places: the queue of its
submitter, `released` (Celery's list holds its message), or `running` (a consumer holds a lease).
One Lua script makes every change atomically, so that clients never observe a partial change:

- `Ledger`: producers enqueue, cancel, delete and read jobs and batches.
- `Leases`: consumers claim jobs, send heartbeats and store results. The call that stores a result
  also updates the job record, the batch's counts and the outbox. A sweep redelivers the jobs that
  Celery lost, or whose consumers died.
- `WebhookOutbox`: senders claim ended jobs and batches until they are delivered.
"""

from .leases import Leases
from .ledger import Ledger
from .outbox import WebhookOutbox

__all__ = ["Leases", "Ledger", "WebhookOutbox"]
