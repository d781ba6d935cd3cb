"""The client: submits jobs and batches, and returns handles on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from . import contract
from .batch import Batch
from .connection.connect import connect, redis_errors
from .connection.outage import Outage
from .connection.url import redact_password
from .contract import (
    CAPTIONS,
    CHUNK_ITEMS,
    MAX_CHUNK_ITEMS,
    MAX_KEEP_S,
    THRESHOLD,
    Detail,
    Queue,
    Task,
)
from .dead_letters import DeadLetters
from .description import Description
from .errors import InvalidInput
from .filter_result import FilterResult
from .job import Job, Match
from .job_builder import JobBuilder
from .ledger import blobs
from .ledger.backpressure import WhenFull
from .ledger.batch_items import ItemSource
from .ledger.blobs import ImageSource
from .ledger.ids import new_id
from .ledger.keys import Keys
from .ledger.ledger import Ledger
from .ledger.publisher import Publisher
from .ledger.records import Depth, JobMetadata, NewJob
from .ledger.submission import BatchOptions, Submission
from .settings import ClientSettings
from .validation import (
    check_count,
    check_id,
    check_options,
    check_when_full,
    seconds_to_deadline,
    task_of,
)
from .webhook_log import WebhookLog
from .worker_watch import WorkerWatch

if TYPE_CHECKING:
    from .search.index import SearchIndex


class Client:
    """A client of one Redis. Thread-safe, and safe after a fork.

    Close it with `close()` or a `with` block. Settings that are not passed come from the
    environment (``BLIPLINE_REDIS_URL``, …). Every method raises ConnectionFailed when Redis is
    unreachable and InvalidInput when an argument is invalid. A Redis that answered before is waited
    for (`ClientSettings.redis_wait_s`). While the queue is full, a single job raises QueueFull and
    a batch waits; `when_full`, "wait" or "raise", selects the other behaviour.
    """

    def __init__(
        self, redis_url: str | None = None, *, settings: ClientSettings | None = None
    ) -> None:
        self._settings = settings or ClientSettings.load(redis_url=redis_url)
        self._outage = Outage(
            redact_password(self._settings.redis_url), self._settings.redis_wait_s
        )
        self._redis = connect(
            self._settings.redis_url,
            outage=self._outage,
            max_connections=self._settings.max_connections,
        )
        self._ledger = Ledger(
            self._redis, Keys(self._settings.key_prefix), blob_ttl_s=self._settings.blob_ttl_s
        )
        self._publisher = Publisher(self._redis, self._ledger, self._settings)
        self._builder = JobBuilder(self._settings.submitter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; submitted jobs continue. Calls of other threads end."""
        self._outage.stop()
        self._redis.close()

    def caption(
        self,
        image: ImageSource,
        prompt: str | None = None,
        *,
        adapter: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Describe an image; the caption begins with the `prompt`, if there is one.

        `image` is a path, a URL, the bytes of an image file, or a PIL image. `options` are those
        of `contract.Options`. `adapter` is the name of one of the worker's adapters, which then
        answers. After `deadline_s` seconds the job fails with `deadline_exceeded`.
        """
        job = self._builder.caption(
            image, prompt, adapter=adapter, deadline_s=deadline_s, **options
        )
        return self._publish(job, when_full)

    def ask(
        self,
        image: ImageSource,
        question: str,
        *,
        answers: Iterable[str] | None = None,
        adapter: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Ask a question about an image; see `caption` for the other arguments.

        With `answers`, at most MAX_TEXTS, the model ranks them and the best is the answer;
        `Job.with_sequences` returns all with their scores.
        """
        job = self._builder.ask(
            image, question, answers=answers, adapter=adapter, deadline_s=deadline_s, **options
        )
        return self._publish(job, when_full)

    def chat(
        self,
        image: ImageSource,
        question: str,
        history: Iterable[tuple[str, str]] = (),
        *,
        adapter: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Ask the next question of a dialogue.

        `history` contains the earlier questions and answers, the oldest first. If the dialogue is
        too long for the model, its oldest turns are dropped. See `caption` for the other arguments.
        """
        job = self._builder.chat(
            image, question, history, adapter=adapter, deadline_s=deadline_s, **options
        )
        return self._publish(job, when_full)

    def match(
        self,
        image: ImageSource,
        texts: str | Iterable[str],
        *,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
    ) -> Job[list[Match]]:
        """Compare an image with one text or with several, at most MAX_TEXTS."""
        return self._publish(self._builder.match(image, texts, deadline_s=deadline_s), when_full)

    def embed(
        self,
        image: ImageSource | None = None,
        *,
        text: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
    ) -> Job[list[float]]:
        """Compute the unit vector of an image or of a text; similar contents have close vectors."""
        job = self._builder.embed(image, text=text, deadline_s=deadline_s)
        return self._publish(job, when_full)

    def describe(
        self,
        image: ImageSource,
        *,
        prompts: Iterable[str] | None = None,
        detail: Detail | str = Detail.MEDIUM,
        adapter: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[Description]:
        """Describe an image in detail: several prompts, and rounds that add what is missing.

        `detail` is "low", "medium" or "high": one, two or three rounds. `prompts` replace those of
        the first round; "" is a caption without a prompt. See `caption` for the other arguments.
        """
        job = self._builder.describe(
            image,
            prompts=prompts,
            detail=detail,
            adapter=adapter,
            deadline_s=deadline_s,
            **options,
        )
        return self._publish(job, when_full)

    def capfilt(
        self,
        image: ImageSource,
        texts: str | Iterable[str],
        *,
        captions: int = CAPTIONS,
        threshold: float = THRESHOLD,
        synthetic_threshold: float | None = None,
        adapter: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[FilterResult]:
        """Keep those of `texts`, and of `captions` synthetic ones, that match an image.

        Texts are accepted from the probability `threshold` on, synthetic captions from
        `synthetic_threshold` on, if it is given. Captions are sampled with `top_p` 0.9 unless
        `options` differ. See `caption` for the other arguments.
        """
        job = self._builder.capfilt(
            image,
            texts,
            captions=captions,
            threshold=threshold,
            synthetic_threshold=synthetic_threshold,
            adapter=adapter,
            deadline_s=deadline_s,
            **options,
        )
        return self._publish(job, when_full)

    def submit(
        self,
        item: ItemSource,
        task: Task | str = Task.CAPTION,
        *,
        job_id: str | None = None,
        submitter: str | None = None,
        note: str = "",
        webhook: str = "",
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[Any]:
        """Submit one item of any task of `docs/tasks.md`; see `caption` for the other arguments.

        With a `job_id` chosen by the caller the call is idempotent: the job is submitted once, and
        a different request under the same id raises IdTaken. `submitter` names the submitter queue
        and overrides the setting. Redis keeps `note` for a week after the end of the job. When the
        job ends, a gateway sends a webhook to the URL `webhook`.
        """
        job = self._builder.submit(
            item,
            task,
            job_id=job_id,
            submitter=submitter,
            note=note,
            webhook=webhook,
            deadline_s=deadline_s,
            **options,
        )
        return self._publish(job, when_full)

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
        from .search.index import SearchIndex

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

    def _publish(self, job: NewJob, when_full: WhenFull) -> Job[Any]:
        with redis_errors(self._settings.redis_url):
            self._publisher.publish(job, check_when_full(when_full))
        return self._submitted(job)

    def _submitted(self, job: NewJob) -> Job[Any]:
        """Return the handle on a job that was just submitted."""
        return Job(job.record.id, self._ledger, self._settings.redis_url, is_submitted=True)
