"""The part of the client that submits single jobs: a connection, and a method for each task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from ..connection.connect import connect, redis_errors
from ..connection.outage import Outage
from ..connection.url import redact_password
from ..contract import CAPTIONS, THRESHOLD, Detail, Task
from ..job import Job, Match
from ..ledger.backpressure import WhenFull
from ..ledger.batch_items import ItemSource
from ..ledger.blobs import ImageSource
from ..ledger.keys import Keys
from ..ledger.ledger import Ledger
from ..ledger.publisher import Publisher
from ..ledger.records import NewJob
from ..results.description import Description
from ..results.filter_result import FilterResult
from ..settings import ClientSettings
from ..validation import check_when_full
from .job_builder import JobBuilder


class TaskClient:
    """A connection to one Redis with a method for each task; `Client` adds batches and handles."""

    #: Seconds after which a silent Redis counts as down; None: those of every connection.
    _timeout_s: ClassVar[float | None] = None

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
            timeout_s=self._timeout_s,
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

    def _publish(self, job: NewJob, when_full: WhenFull) -> Job[Any]:
        with redis_errors(self._settings.redis_url):
            self._publisher.publish(job, check_when_full(when_full))
        return self._submitted(job)

    def _submitted(self, job: NewJob) -> Job[Any]:
        """Return the handle on a job that was just submitted."""
        return Job(job.record.id, self._ledger, self._settings.redis_url, is_submitted=True)
