"""Re-ranking of hits by image-text matching: each pair of text and image is judged by the model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..contract import MAX_TEXTS, MAX_TEXTS_CHARS, ErrorCode
from ..errors import BliplineError, InvalidInput, JobError, WaitTimeout
from ..job import Job, Match
from ..ledger.blobs import ImageSource
from .entry import Kind
from .hit import Hit

if TYPE_CHECKING:
    from ..client import Client

#: Maximum hits that are re-ranked: each is a forward pass of the model.
MAX_RERANK: Final = 1000


class Reranker:
    """A re-ranking of hits; `timeout_s` limits all of its jobs together."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def images(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """Order images by the probability that the text describes them; see `ordered`."""
        submitted = [self._submit(hit.source, [text]) for hit in hits]
        answers = iter(self._answers([job for job in submitted if isinstance(job, Job)]))
        return ordered(
            _judged(hit, next(answers) if isinstance(job, Job) else job, 0)
            for hit, job in zip(hits, submitted, strict=True)
        )

    def texts(self, image: ImageSource, hits: Sequence[Hit]) -> list[Hit]:
        """Order texts by the probability that they describe the image; see `ordered`."""
        groups = list(_groups(hits))
        jobs = [self._submit(image, [hit.value for hit in group]) for group in groups]
        for job in jobs:
            if isinstance(job, InvalidInput):
                raise job
        answers = self._answers([job for job in jobs if isinstance(job, Job)])
        return ordered(
            _judged(hit, answer, position)
            for group, answer in zip(groups, answers, strict=True)
            for position, hit in enumerate(group)
        )

    def _submit(self, image: ImageSource, texts: list[str]) -> Job[list[Match]] | InvalidInput:
        """Return a job, or the error of an image that cannot be read."""
        try:
            return self._client.match(image, texts, when_full="wait")
        except InvalidInput as error:
            return error

    def _answers(self, jobs: Sequence[Job[list[Match]]]) -> list[list[Match] | JobError]:
        """Return the answer of each job, in order; cancel all if the search fails."""
        deadline = time.monotonic() + self._timeout_s
        try:
            return [_answer(job, max(0.0, deadline - time.monotonic())) for job in jobs]
        except BaseException as error:
            _cancel(jobs)
            if isinstance(error, WaitTimeout):
                raise WaitTimeout(
                    f"the search was not re-ranked within {self._timeout_s:g} s: allow more time, "
                    "or re-rank fewer hits"
                ) from None
            raise


def ordered(hits: Iterable[Hit]) -> list[Hit]:
    """Order hits by probability, then by cosine; those without a probability come last."""

    def rank(hit: Hit) -> tuple[bool, float, float]:
        return hit.probability is None, -(hit.probability or 0.0), -hit.cosine

    return sorted(hits, key=rank)


def check_rerank(rerank: int, *, is_image_query: bool, find: Kind) -> None:
    """Check the number of hits to re-rank; raises InvalidInput."""
    if not 0 <= rerank <= MAX_RERANK:
        raise InvalidInput(f"rerank={rerank}: choose 0 to {MAX_RERANK:,}")
    if rerank and is_image_query == (find is Kind.IMAGE):
        raise InvalidInput(
            "re-ranking compares a text with an image: search images by a text, or texts by an "
            "image, or omit the re-ranking"
        )


def _groups(hits: Sequence[Hit]) -> Iterator[list[Hit]]:
    """Yield groups of texts that fit into one job."""
    group: list[Hit] = []
    chars = 0
    for hit in hits:
        if group and (len(group) == MAX_TEXTS or chars + len(hit.value) > MAX_TEXTS_CHARS):
            yield group
            group, chars = [], 0
        group.append(hit)
        chars += len(hit.value)
    if group:
        yield group


def _answer(job: Job[list[Match]], timeout_s: float) -> list[Match] | JobError:
    """Return the matches of a job, or the error of its image; raises other errors."""
    try:
        return job.result(timeout_s)
    except JobError as error:
        if error.code == ErrorCode.UNSUPPORTED_TASK:
            raise
        return error


def _judged(hit: Hit, answer: list[Match] | JobError | InvalidInput, position: int) -> Hit:
    if isinstance(answer, list):
        return replace(hit, probability=answer[position].probability)
    return replace(hit, error=str(answer))


def _cancel(jobs: Sequence[Job[list[Match]]]) -> None:
    """Cancel jobs; those that have ended do not change."""
    for job in jobs:
        try:
            job.cancel()
        except BliplineError:
            # The error of the search itself is the message.
            return
