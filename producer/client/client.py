"""The client: submits jobs and batches, and returns handles on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .. import contract
from ..batch import Batch
from ..connection.connect import redis_errors
from ..contract import (
    CHUNK_ITEMS,
    MAX_CHUNK_ITEMS,
    MAX_KEEP_S,
    Queue,
    Task,
)
from ..errors import InvalidInput
from ..job import Job
from ..ledger import blobs
from ..ledger.backpressure import WhenFull
from ..ledger.batch_items import ItemSource
from ..ledger.blobs import ImageSource
from ..ledger.ids import new_id
from ..ledger.records import Depth, JobMetadata
from ..ledger.statistics import LedgerStatistics
from ..ledger.submission import BatchOptions, Submission
from ..ledger.worker_watch import WorkerWatch
from ..observability import tracing
from ..validation import (
    check_count,
    check_id,
    check_options,
    check_when_full,
    seconds_to_deadline,
    task_of,
)
from .dead_letters import DeadLetters
from .task_client import TaskClient
from .webhook_log import WebhookLog

if TYPE_CHECKING:
    from ..search.index import SearchIndex


class Client(TaskClient):
    """A client of one Redis. Thread-safe, and safe after a fork.

    Close it with `close()` or a `with` block. Settings that are not passed come from the
    environment (``BLIPLINE_REDIS_URL``, …). Every method raises ConnectionFailed when Redis is
    unreachable and InvalidInput when an argument is invalid. A Redis that answered before is waited
    for (`ClientSettings.redis_wait_s`). While the queue is full, a single job raises QueueFull and
    a batch waits; `when_full`, "wait" or "raise", selects the other behaviour.
    """

    def upload(
        self, image: ImageSource, *, account: str = "", when_full: WhenFull = "raise"
    ) -> str:
        """Store a local image and return its reference, ``blob:<sha256>``.

        The reference must be submitted within an hour. A reference is returned unchanged. With an
        `account`, a name of API keys, the jobs of this account may name the image, and its bytes
        count for the account.
        """
        data = blobs.read(image)
        if isinstance(data, str):
            return data
        when_full = check_when_full(when_full)
        with redis_errors(self._settings.redis_url):
            (reference,) = self._publisher.upload(
                [data], Queue.INTERACTIVE, when_full, account=account
            )
        return reference

    def submit_batch(
        self,
        items: Iterable[ItemSource],
        task: Task | str = Task.CAPTION,
        *,
        batch_id: str | None = None,
        chunk_items: int = CHUNK_ITEMS,
        deadline_s: float | None = None,
        keep_s: int = contract.RESULT_TTL_S,
        submitter: str | None = None,
        note: str = "",
        webhook: str = "",
        when_full: WhenFull = "wait",
        on_submitted: Callable[[int], None] = lambda total: None,
        **options: Any,
    ) -> Batch:
        """Submit any number of items as a stream; `items` is never in memory as a whole.

        An item that cannot be submitted (for example because its file does not exist) keeps its
        index and ends with an error. `on_submitted` is called with the number of items submitted
        so far, also during backpressure. Redis keeps results for `keep_s` seconds.

        With a `batch_id` chosen by the caller any process can repeat an interrupted call: the same
        items in the same order resume the batch, and no item is submitted twice. If `items` raises,
        the batch consists of the items submitted before; without any, there is no batch.
        `submitter`, `note` and `webhook` are as in `submit`.
        """
        if batch_id is not None:
            check_id("batch_id", batch_id)
        check_count("chunk_items", chunk_items, MAX_CHUNK_ITEMS)
        check_count("keep_s", keep_s, MAX_KEEP_S)
        checked = check_options(options, deadline_s)
        if checked.get("stream"):
            raise InvalidInput("stream: the texts of a batch are not published; omit it")
        batch_id = batch_id or new_id()
        batch_options = BatchOptions(
            batch_id,
            task_of(task),
            checked,
            chunk_items,
            keep_s,
            check_when_full(when_full),
            submitter or self._settings.submitter or batch_id,
            JobMetadata(note, webhook=webhook),
            seconds_to_deadline(checked),
        )
        url = self._settings.redis_url
        submission = Submission(batch_options, self._redis, self._ledger, self._publisher, url)
        with tracing.submit_span({"blipline.batch_id": batch_id}):
            submission.run(items, on_submitted)
        return self.batch(batch_id)

    def job(self, job_id: str) -> Job[Any]:
        """Return a handle on a job of any process, which need not exist (see `status`)."""
        return Job(job_id, self._ledger, self._settings.redis_url)

    def batch(self, batch_id: str) -> Batch:
        """Return a handle on a batch of any process."""
        check_id("batch_id", batch_id)
        return Batch(batch_id, self._redis, self._ledger, self._settings.redis_url)

    def depth(self) -> Depth:
        """Read the number of open items of each queue, running jobs, and bytes of uploads."""
        with redis_errors(self._settings.redis_url):
            return self._ledger.depth()

    def statistics(self) -> LedgerStatistics:
        """Read the statistics of the job store, which its Prometheus metrics show."""
        with redis_errors(self._settings.redis_url):
            return self._ledger.statistics()

    @property
    def worker_watch(self) -> WorkerWatch:
        """The watch that warns if a wait has no live worker."""
        return self._ledger.worker_watch

    def stored_bytes(self, account: str) -> int:
        """Read the bytes that Redis stores for a name of API keys."""
        with redis_errors(self._settings.redis_url):
            return self._ledger.stored_bytes(account)

    def index(self, folder: str | os.PathLike[str] = ".blipline-index") -> SearchIndex:
        """Return a handle on the search index in a folder, which need not exist yet.

        It needs the extra `search`; docs/search.md has examples.
        """
        # Some builds of Python have no sqlite3, which nothing else needs.
        from ..search.index import SearchIndex

        return SearchIndex(self, folder, self._settings.submitter)

    @property
    def dead(self) -> DeadLetters:
        """The dead letters: jobs with valid items that workers gave up on."""
        return DeadLetters(self._redis, self._ledger, self._settings.redis_url)

    @property
    def webhooks(self) -> WebhookLog:
        """The delivery log of the webhooks that gateways send."""
        return WebhookLog(self._redis, self._ledger.keys, self._settings.redis_url)

    def _submit_chunk(self, task: Task, items: Iterable[ItemSource]) -> Job[Any]:
        """Submit items as one interactive job, whose results `Job._results` waits for."""
        return self._publish(self._builder.chunk(task, items), "wait")
