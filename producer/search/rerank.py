"""Re-ranking of hits by image-text matching: each pair of text and image is judged by the model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ..contract import MAX_TEXTS, MAX_TEXTS_CHARS, ErrorCode, Task, failure
from ..errors import BliplineError, InvalidInput, JobFailed, WaitTimeout
from ..job import Job, Result
from ..ledger import blobs
from ..ledger.blobs import ImageSource
from .entry import Kind
from .hit import Hit

if TYPE_CHECKING:
    from ..client import Client

#: Maximum hits that are re-ranked: each is a forward pass of the model.
MAX_RERANK: Final = 1000
#: Pairs of one job: each job costs as much as several pairs, and several jobs run at once.
CHUNK_ITEMS: Final = 16


class Reranker:
    """A re-ranking of hits; `timeout_s` limits all of its jobs together."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def images(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        """Order images by the probability that the text describes them; see `ordered`."""
        items = [_item(hit, text) for hit in hits]
        return ordered(
            _judged(hit, result, 0) for hit, result in zip(hits, self._results(items), strict=True)
        )

    def texts(self, image: ImageSource, hits: Sequence[Hit]) -> list[Hit]:
        """Order texts by the probability that they describe the image; see `ordered`."""
        groups, source = list(_groups(hits)), blobs.read(image)
        items = [{"image": source, "texts": [hit.value for hit in group]} for group in groups]
        results = self._results(items)
        for result in results:
            if result.error is not None:
                raise JobFailed(result.error.code, result.error.message)
        return ordered(
            _judged(hit, result, position)
            for group, result in zip(groups, results, strict=True)
            for position, hit in enumerate(group)
        )

    def _results(self, items: Sequence[dict[str, Any]]) -> list[Result]:
        """Return the result of each item, in order; cancel all jobs if the search fails."""
        deadline = time.monotonic() + self._timeout_s
        chunks = [items[at : at + CHUNK_ITEMS] for at in range(0, len(items), CHUNK_ITEMS)]
        jobs = [self._client._submit_chunk(Task.MATCH, chunk) for chunk in chunks]
        results: list[Result] = []
        try:
            for job, chunk in zip(jobs, chunks, strict=True):
                results += job._results(len(chunk), max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            _cancel(jobs)
            if isinstance(error, WaitTimeout):
                raise WaitTimeout(
                    f"the search was not re-ranked within {self._timeout_s:g} s: allow more time, "
                    "or re-rank fewer hits"
                ) from None
            raise
        for result in results:
            if result.error is not None and result.error.code is ErrorCode.UNSUPPORTED_TASK:
                raise JobFailed(result.error.code, result.error.message)
        return results


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


def _item(hit: Hit, text: str) -> dict[str, Any]:
    try:
        return {"image": hit.read(), "texts": [text]}
    except InvalidInput as error:
        return dict(failure(error.code, str(error)))


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


def _judged(hit: Hit, result: Result, position: int) -> Hit:
    if result.matches is None:
        return replace(hit, error=result.error.message if result.error else "no result")
    return replace(hit, probability=result.matches[position].probability)


def _cancel(jobs: Sequence[Job[Any]]) -> None:
    """Cancel jobs; those that have ended do not change."""
    for job in jobs:
        try:
            job.cancel()
        except BliplineError:
            # The error of the search itself is the message.
            return
