"""The names of all Redis keys of Blipline. The Lua script uses the same names.

All keys, including those of Celery and its queues, begin with the deployment's prefix, so that
deployments can share a server.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract import BLOB_SCHEME, RESULT_KEY_PREFIX, Queue


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one deployment."""

    prefix: str = ""

    # Single keys.

    @property
    def open(self) -> str:
        """Sorted set of the jobs without a result, by the time of submission (Unix s)."""
        return f"{self.prefix}blipline:open"

    @property
    def running(self) -> str:
        """Sorted set of the jobs that a consumer runs, by its last heartbeat (Unix s)."""
        return f"{self.prefix}blipline:running"

    @property
    def attempts(self) -> str:
        """Hash of the running jobs: the number of claims, the id and time of the last one."""
        return f"{self.prefix}blipline:attempts"

    @property
    def suspects(self) -> str:
        """Hash of the running jobs: the number of consumers that died at each item, as JSON."""
        return f"{self.prefix}blipline:suspects"

    @property
    def depth(self) -> str:
        """Hash of the open items of each queue and the bytes of their images."""
        return f"{self.prefix}blipline:depth"

    @property
    def blob_users(self) -> str:
        """Hash of the uploaded images: the open jobs that name one, its bytes, its expiry."""
        return f"{self.prefix}blipline:blob-users"

    @property
    def usage(self) -> str:
        """Hash of the bytes that Redis stores for each account, and for all of them as ``*``."""
        return f"{self.prefix}blipline:usage"

    @property
    def usage_due(self) -> str:
        """Sorted set of the entries of all accounts, by the time of their next measurement."""
        return f"{self.prefix}blipline:usage-due"

    @property
    def dead(self) -> str:
        """Sorted set of the dead letters, by the time of their end (Unix s)."""
        return f"{self.prefix}blipline:dead"

    @property
    def malformed(self) -> str:
        """List of the messages that no consumer can process, as JSON, the newest first."""
        return f"{self.prefix}blipline:malformed"

    @property
    def webhooks(self) -> str:
        """Sorted set of the webhook outbox: ended jobs and batches, by due time (Unix s)."""
        return f"{self.prefix}blipline:webhooks"

    @property
    def deadlines(self) -> str:
        """Sorted set of the open jobs that have a deadline, by this (Unix s)."""
        return f"{self.prefix}blipline:deadlines"

    @property
    def workers(self) -> str:
        """Sorted set of the workers, by their last sign of life (Unix s)."""
        return f"{self.prefix}blipline:workers"

    @property
    def models(self) -> str:
        """Sorted set of the hub models that workers run, `name@commit`, by their last report."""
        return f"{self.prefix}blipline:models"

    @property
    def sweeper(self) -> str:
        """The lock of the sweep: exists while no further sweep is due."""
        return f"{self.prefix}blipline:sweeper"

    @property
    def open_batches(self) -> str:
        """Sorted set of the batches that have not ended, by the last check of this (Unix s)."""
        return f"{self.prefix}blipline:open-batches"

    @property
    def api_keys(self) -> str:
        """Hash of the gateway's API keys: the tenant and the SHA-256 of the key, as JSON by id."""
        return f"{self.prefix}blipline:api-keys"

    @property
    def webhook_secrets(self) -> str:
        """Hash of the webhook secrets, as JSON by tenant."""
        return f"{self.prefix}blipline:webhook-secrets"

    @property
    def rates(self) -> str:
        """The prefix of the gateway's rate limit counters."""
        return f"{self.prefix}blipline:rates"

    # Keys of a queue.

    def queue(self, queue: Queue) -> str:
        """List of Celery's messages; the last one is next."""
        return f"{self.prefix}{queue}"

    def released(self, queue: Queue) -> str:
        """Sorted set of the jobs that Celery holds, unclaimed, by release time (Unix s)."""
        return f"{self.prefix}blipline:{queue}:released"

    def submitter_usage(self, queue: Queue) -> str:
        """Sorted set for fair queueing: the submitters with waiting jobs, by their items so far."""
        return f"{self.prefix}blipline:{queue}:turns"

    def submitter_queue(self, queue: Queue, submitter: str) -> str:
        """List of one submitter's waiting jobs; the last one is next."""
        return f"{self.prefix}blipline:{queue}:lane:{submitter}"

    # Keys of an account.

    def account_usage(self, account: str) -> str:
        """Hash of an account's jobs, batches and images: the bytes of each (see usage.lua)."""
        return f"{self.prefix}blipline:usage:{account}"

    def index(self, account: str, kind: str) -> str:
        """Sorted set of an account's single jobs (`job`) or batches (`batch`), by their submission.

        The members are public ids, the scores Unix s (see usage.lua).
        """
        return f"{self.prefix}blipline:index:{kind}:{account}"

    def daily_usage(self, key_id: str) -> str:
        """Hash of the items and bytes that an API key has used on a day."""
        return f"{self.prefix}blipline:daily-usage:{key_id}"

    def files(self, account: str) -> str:
        """Hash of an account's files of the OpenAI-compatible API, as JSON by id."""
        return f"{self.prefix}blipline:files:{account}"

    def file_batches(self, account: str) -> str:
        """Sorted set of an account's batches of these files, by the time of submission (Unix s)."""
        return f"{self.prefix}blipline:file-batches:{account}"

    def deliveries(self, account: str) -> str:
        """Stream of an account's latest attempts to deliver webhooks, as JSON."""
        return f"{self.prefix}blipline:deliveries:{account}"

    # Keys of a job, batch, image or cached result.

    def record(self, task_id: str) -> str:
        """A job's record: its payload and its message (see prelude.lua)."""
        return f"{self.prefix}blipline:job:{task_id}"

    def metadata(self, task_id: str) -> str:
        """Hash of a job's metadata and webhook. A batch's record has fields of the same names."""
        return f"{self.prefix}blipline:note:{task_id}"

    def result(self, task_id: str) -> str:
        """The key and channel of a task's result, as Celery's Redis backend names them."""
        return f"{self.prefix}{RESULT_KEY_PREFIX}{task_id}"

    def cancelled(self, job_or_batch_id: str) -> str:
        """The cancellation mark of a job, or of all chunks of a batch."""
        return f"{self.prefix}blipline:cancelled:{job_or_batch_id}"

    def revoked(self, task_id: str) -> str:
        """The mark of a revocation that was applied; its echoes have no effect while it exists."""
        return f"{self.prefix}blipline:revoked:{task_id}"

    def batch(self, batch_id: str) -> str:
        """Hash of a batch's options and counts."""
        return f"{self.prefix}blipline:batch:{batch_id}"

    def done(self, batch_id: str) -> str:
        """Bitmap of a batch; bit n is set if chunk n has a result."""
        return f"{self.batch(batch_id)}:done"

    def failed(self, batch_id: str) -> str:
        """Hash of a batch's numbers of failed items, by chunk number; zeros are omitted."""
        return f"{self.batch(batch_id)}:failed"

    def ended(self, batch_id: str) -> str:
        """List of a batch's ended chunks, in the order of their ends."""
        return f"{self.batch(batch_id)}:ended"

    def batch_deliveries(self, batch_id: str) -> str:
        """List of a batch's latest attempts to deliver its webhook, the newest first."""
        return f"{self.batch(batch_id)}:deliveries"

    def digests(self, batch_id: str) -> str:
        """String of the digests of a batch's chunks, in order, each of the same length."""
        return f"{self.batch(batch_id)}:digests"

    def blob(self, reference: str) -> str:
        """The bytes behind a ``blob:<sha256>`` reference."""
        return f"{self.prefix}blipline:{BLOB_SCHEME}{reference.removeprefix(BLOB_SCHEME)}"

    def awaited_blob(self, sha: str) -> str:
        """The mark of an upload whose job is about to be enqueued: no deletion erases it."""
        return f"{self.prefix}blipline:awaited:{sha}"

    def images_of(self, task_id: str) -> str:
        """The SHA-256 of the uploaded images of a job or chunk that succeeded, as in its record."""
        return f"{self.prefix}blipline:images-of:{task_id}"

    def partial_text(self, job_id: str) -> str:
        """The text of a running job so far, if its options ask for it."""
        return f"{self.prefix}blipline:text:{job_id}"

    def cached_result(self, digest: str) -> str:
        """A result in the result cache, by the digest of its request."""
        return f"{self.prefix}blipline:answer:{digest}"

    def answers_of(self, task_id: str) -> str:
        """The digests of the cached results that a job or chunk has stored or used."""
        return f"{self.prefix}blipline:answers-of:{task_id}"

    def cached_bytes(self, ttl_s: int) -> str:
        """Hash of the bytes of the result cache, by the number of the window of `ttl_s` seconds."""
        return f"{self.prefix}blipline:answer-bytes:{ttl_s}"
