"""Every key that Blipline has in Redis. ledger.lua writes the same names.

A prefix lets deployments share a server: all keys, the queues and Celery's own included, begin
with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract import BLOB_SCHEME, RESULT_KEY_PREFIX, Queue


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one deployment."""

    prefix: str = ""

    # Single keys.

    @property
    def open(self) -> str:
        """Sorted set of the jobs without a result, by the time they were submitted (Unix s)."""
        return f"{self.prefix}blipline:open"

    @property
    def running(self) -> str:
        """Sorted set of the jobs that a consumer has begun, by its last sign of life (Unix s)."""
        return f"{self.prefix}blipline:running"

    @property
    def attempts(self) -> str:
        """Hash: how often each running job has been begun, and the call that did it last."""
        return f"{self.prefix}blipline:attempts"

    @property
    def suspects(self) -> str:
        """Hash: of running jobs, how often a consumer died at each of their items, as JSON."""
        return f"{self.prefix}blipline:suspects"

    @property
    def depth(self) -> str:
        """Hash: the open items of each queue, and the bytes of the images that they name."""
        return f"{self.prefix}blipline:depth"

    @property
    def blob_users(self) -> str:
        """Hash: open jobs that name each uploaded image, its bytes, how long others want it."""
        return f"{self.prefix}blipline:blob-users"

    @property
    def dead(self) -> str:
        """Sorted set of the jobs that were given up on, by when (Unix s): the dead letters."""
        return f"{self.prefix}blipline:dead"

    @property
    def webhooks(self) -> str:
        """Sorted set of the jobs and batches whose end is to be told, by when next (Unix s)."""
        return f"{self.prefix}blipline:webhooks"

    @property
    def sweeper(self) -> str:
        """Exists while nobody need sweep again."""
        return f"{self.prefix}blipline:sweeper"

    @property
    def api_keys(self) -> str:
        """Hash: whose each API key of the gateway is, and the key's SHA-256, as JSON by its id."""
        return f"{self.prefix}blipline:api-keys"

    @property
    def webhook_secrets(self) -> str:
        """Hash: what webhooks are signed with, as JSON by the name that API keys stand for."""
        return f"{self.prefix}blipline:webhook-secrets"

    @property
    def rates(self) -> str:
        """Begins the counters of the gateway's requests."""
        return f"{self.prefix}blipline:rates"

    # One for each queue.

    def queue(self, queue: Queue) -> str:
        """List of Celery's messages, the next one at its end."""
        return f"{self.prefix}{queue}"

    def released(self, queue: Queue) -> str:
        """Sorted set of the jobs whose message is in Celery's hands and not begun, by when."""
        return f"{self.prefix}blipline:{queue}:released"

    def turns(self, queue: Queue) -> str:
        """Sorted set of the submitters with waiting jobs, by the items that each has had."""
        return f"{self.prefix}blipline:{queue}:turns"

    def lane(self, queue: Queue, submitter: str) -> str:
        """List of one submitter's waiting jobs, the next one at its end."""
        return f"{self.prefix}blipline:{queue}:lane:{submitter}"

    # One for each job, batch, image or answer.

    def row(self, task_id: str) -> str:
        """A job's row: what is asked, and the message that asks it (see ledger.lua)."""
        return f"{self.prefix}blipline:job:{task_id}"

    def note(self, task_id: str) -> str:
        """Hash: what a job was submitted with, and whom to tell of its end; batches have fields of
        the same names in their record."""
        return f"{self.prefix}blipline:note:{task_id}"

    def result(self, task_id: str) -> str:
        """Where Celery's Redis backend stores a task's result, and announces it."""
        return f"{self.prefix}{RESULT_KEY_PREFIX}{task_id}"

    def cancelled(self, job_or_batch_id: str) -> str:
        """Its existence cancels a job, or every chunk of a batch."""
        return f"{self.prefix}blipline:cancelled:{job_or_batch_id}"

    def batch(self, batch_id: str) -> str:
        """Hash: a batch's terms and counts."""
        return f"{self.prefix}blipline:batch:{batch_id}"

    def done(self, batch_id: str) -> str:
        """Bitmap of a batch: bit n says that chunk n has its result."""
        return f"{self.batch(batch_id)}:done"

    def failed(self, batch_id: str) -> str:
        """Hash of a batch: chunk number to its count of failed items, where that is not 0."""
        return f"{self.batch(batch_id)}:failed"

    def ended(self, batch_id: str) -> str:
        """List of a batch's chunk numbers, in the order in which they ended."""
        return f"{self.batch(batch_id)}:ended"

    def blob(self, reference: str) -> str:
        """The bytes behind a ``blob:<sha256>`` reference."""
        return f"{self.prefix}blipline:{BLOB_SCHEME}{reference.removeprefix(BLOB_SCHEME)}"

    def answer(self, digest: str) -> str:
        """An answer that whoever asks the same is given."""
        return f"{self.prefix}blipline:answer:{digest}"
