"""Filtering of a stream of pairs: one part is submitted while the results of another are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any, Final

from ..batch import Batch
from ..client import Client
from ..contract import CAPTIONS, THRESHOLD, ErrorCode, Task, failure
from ..errors import InvalidInput, JobUnknown
from ..image_sources.image_bytes import ImageBytes
from ..job import Result
from .pairs import ImageTextPair, Part

#: Pairs of a part: 64 chunks. More would be read again after a crash, fewer would leave workers
#: without work at the end of each part.
PART_PAIRS: Final = 2048
#: Parts that are submitted before the results of an earlier part are read.
PARTS_AHEAD: Final = 2
#: Seconds for which an interrupted run can be resumed.
KEEP_S: Final = 7 * 24 * 3600


class SubmissionStopped(Exception):
    """The end of a submission whose results are no longer read."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The synthetic captions of each pair, and the thresholds."""

    captions: int = CAPTIONS
    threshold: float = THRESHOLD
    synthetic_threshold: float | None = None
    #: The worker's adapter that writes the captions; None: none.
    adapter: str | None = None

    def threshold_of(self, source: str) -> float:
        """Return the threshold of a source of texts."""
        if source == "web" or self.synthetic_threshold is None:
            return self.threshold
        return self.synthetic_threshold


class PartStream:
    """A stream of parts through the queue, as batches that the next call under its id resumes."""

    def __init__(
        self,
        client: Client,
        run_id: str,
        terms: Terms,
        options: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._fields = {k: v for k, v in asdict(terms).items() if v is not None}
        self._options = dict(options)
        self._reader = ImageBytes()
        self._timeout_s = timeout_s
        self._stopping = Event()
        #: True once a part may have reached Redis.
        self.has_submitted = False

    def results(self, parts: Iterable[Part]) -> Iterator[tuple[Part, list[Result]]]:
        """Yield each part with the results of its pairs, in order.

        Redis deletes the results of a part once the next part is requested.
        """
        submitted: deque[tuple[Part, Future[Batch]]] = deque()
        with ThreadPoolExecutor(1, "capfilt") as executor:
            try:
                for part in parts:
                    submitted.append((part, executor.submit(self._submit, part)))
                    if len(submitted) > PARTS_AHEAD:
                        yield from self._collect(*submitted.popleft())
                while submitted:
                    yield from self._collect(*submitted.popleft())
            finally:
                self._stopping.set()
                executor.shutdown(cancel_futures=True)

    def forget(self, number: int) -> None:
        """Delete the batch of a part, if Redis still has it."""
        with suppress(JobUnknown):
            self._client.batch(self._batch_id(number)).delete(keep_cached=True)

    def _collect(self, part: Part, submitted: Future[Batch]) -> Iterator[tuple[Part, list[Result]]]:
        batch = submitted.result()
        yield part, list(batch.results(self._timeout_s))
        with suppress(JobUnknown):
            batch.delete(keep_cached=True)

    def _submit(self, part: Part) -> Batch:
        self.has_submitted = True
        return self._client.submit_batch(
            map(self._item, part.pairs),
            Task.CAPFILT,
            batch_id=self._batch_id(part.number),
            keep_s=KEEP_S,
            # All parts share a submitter queue.
            submitter=self._run_id,
            on_submitted=self._continue,
            **self._options,
        )

    def _batch_id(self, number: int) -> str:
        return f"{self._run_id}.{number}"

    def _item(self, pair: ImageTextPair) -> dict[str, Any]:
        if pair.error is not None:
            return {"error": pair.error}
        try:
            image = self._reader.read(pair.locator)
        except InvalidInput as problem:
            return dict(failure(ErrorCode(problem.code), str(problem)))
        return {"image": image, "texts": list(pair.texts), **self._fields}

    def _continue(self, total: int) -> None:
        if self._stopping.is_set():
            raise SubmissionStopped
