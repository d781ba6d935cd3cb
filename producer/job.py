"""A handle on one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from .connection.connect import redis_errors
from .connection.outage import outage_limit
from .contract import ErrorCode, State
from .errors import (
    ConnectionFailed,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobUnknown,
    WaitTimeout,
)
from .ledger.isolation import isolate_failures
from .ledger.ledger import Ledger
from .ledger.records import ChunkResult
from .ledger.records import JobSnapshot as JobSnapshot
from .polling import PollSchedule
from .results.result import JobProgress
from .results.result import Match as Match
from .results.result import Result as Result
from .results.text_sequences import TextSequence
from .results.text_stream import LOOK_UP_S, TextPart, TextParts

Value = TypeVar("Value")

#: Maximum seconds between two look-ups of a job.
MAX_DELAY_S: Final = 0.1


def any_value(result: Result) -> Any:
    """Return the value of a result, whose type depends on the task (see `Job.result`)."""
    if result.embedding is not None:
        return result.embedding
    if result.description is not None:
        return result.description
    if result.filter_result is not None:
        return result.filter_result
    return result.text or "" if result.matches is None else result.matches


class Job(Generic[Value]):
    """A handle on one submitted job, for any process. Every method queries Redis."""

    def __init__(
        self,
        job_id: str,
        ledger: Ledger,
        redis_url: str,
        value: Callable[[Result], Value] = any_value,
        *,
        is_submitted: bool = False,
    ) -> None:
        self.id = job_id
        self._ledger = ledger
        self._redis_url = redis_url
        self._value = value
        #: True if this process has submitted the job.
        self._is_submitted = is_submitted

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> State:
        """Return the state of the job."""
        return self._snapshot().state

    def look(self, wait_s: float = 0.0) -> tuple[State, Result | None]:
        """Return the state, and the result of an ended job; wait up to `wait_s` seconds for it."""
        state, result, _ = self.progress(wait_s)
        return state, result

    def progress(self, wait_s: float = 0.0) -> JobProgress:
        """Return state, result and time of the start; wait up to `wait_s` seconds for the end."""
        return progress_of(self._wait(wait_s))

    def note(self) -> str | None:
        """Return the note of the submission; None if there is no such job, or no note."""
        with redis_errors(self._redis_url):
            return self._ledger.metadata(self.id)

    def with_sequences(self) -> Job[list[TextSequence]]:
        """Return a handle on the same job whose result is all its texts, with their scores."""
        return Job(
            self.id,
            self._ledger,
            self._redis_url,
            attrgetter("sequences"),
            is_submitted=self._is_submitted,
        )

    def stream(self, timeout: float | None = None) -> Iterator[TextPart]:
        """Yield the text of a caption, question or dialogue while it grows, part by part.

        The job needs the option `stream`; without it, and with beams or several texts, the whole
        text is one part. `timeout` and errors are those of `result`.
        """
        parts, schedule = TextParts(), PollSchedule(timeout, LOOK_UP_S)
        while True:
            with outage_limit(schedule.remaining_s() if timeout else None):
                text = partial_texts([self])[0]
                snapshot = self._snapshot()
            if has_ended(snapshot):
                self.value(snapshot, timeout)
                text = final_text(snapshot)
                if (part := parts.advance(text, is_final=True)) is not None:
                    yield part
                return
            if (part := parts.advance(text)) is not None:
                yield part
            self._ledger.worker_watch.look(schedule.waited_s())
            if not schedule.pause():
                self.value(snapshot, timeout)

    def cancel(self) -> None:
        """Cancel the job; a job that has ended does not change."""
        with redis_errors(self._redis_url):
            self._ledger.cancel(self.id)

    def delete(self) -> None:
        """Delete the job with its record, metadata, result and uploads; an open one is stopped."""
        with redis_errors(self._redis_url):
            self._ledger.delete_jobs([self.id])

    def result(self, timeout: float | None = None) -> Value:
        """Wait for the result, at most `timeout` seconds; None means without a time limit.

        Return a text for a caption, question or dialogue, the matches in the order of the texts, a
        vector for an embedding, a Description, or a FilterResult for CapFilt.

        Raise JobFailed, JobCancelled, JobExpired or JobUnknown if there will be no result,
        WaitTimeout when the timeout has passed, ConnectionFailed if Redis is unreachable until
        then or for `ClientSettings.redis_wait_s`.
        """
        return self.value(self._wait(timeout), timeout)

    def _results(self, count: int, timeout: float | None) -> list[Result]:
        """Wait for the results of a job of `count` items, and raise errors as `result` does."""
        look = self._wait(timeout)
        chunk_result = look.result
        if chunk_result is None:
            self.value(look, timeout)
            raise AssertionError("a job without a result raises its error")
        return [Result.of(number, chunk_result.result(number)) for number in range(count)]

    def value(self, look: JobSnapshot, timeout: float | None) -> Value:
        """Return or raise the outcome of `result` for the last snapshot of its wait."""
        state, result, _ = look
        if result is not None:
            return self._value(_successful(self.id, result))
        if state is State.CANCELLED:
            raise JobCancelled(f"job {self.id} was cancelled")
        if state is State.EXPIRED:
            raise JobExpired(f"job {self.id} has ended, and its result has expired")
        if state is State.UNKNOWN and self._is_submitted:
            raise JobExpired(f"job {self.id}: Redis has lost it: it was evicted or deleted")
        if state is State.UNKNOWN:
            raise JobUnknown(f"no job {self.id} was submitted to this Redis")
        if state is State.QUEUED:
            raise WaitTimeout(
                f"job {self.id}: no worker has started it after {timeout:g} s. "
                "Is one running on this Redis (`python -m worker`)? The job stays queued"
            )
        raise WaitTimeout(
            f"job {self.id}: no result after {timeout:g} s; it is still {state.value}"
        )

    def _wait(self, timeout: float | None) -> JobSnapshot:
        schedule = PollSchedule(timeout, MAX_DELAY_S)
        while True:
            # Without a wait, the call is a read, which rides out an outage as all reads do.
            with outage_limit(schedule.remaining_s() if timeout else None):
                snapshot = self._snapshot()
            if has_ended(snapshot):
                return snapshot
            self._ledger.worker_watch.look(schedule.waited_s())
            if not schedule.pause():
                return snapshot

    def _snapshot(self) -> JobSnapshot:
        with redis_errors(self._redis_url):
            return self._ledger.snapshot(self.id)


def has_ended(snapshot: JobSnapshot) -> bool:
    """Return whether the job has ended or is unknown."""
    return snapshot.state not in (State.QUEUED, State.RUNNING)


def final_text(snapshot: JobSnapshot) -> str:
    """Return the text of a job that has ended without an error."""
    result = progress_of(snapshot).result
    return "" if result is None else result.text or ""


def progress_of(snapshot: JobSnapshot) -> JobProgress:
    """Return the progress of a job of one item."""
    state, result, started_at = snapshot
    if result is None:
        return JobProgress(state, None, started_at)
    item = Result.of(0, result.result(0))
    item = replace(item, started_at=result.started_at, ended_at=result.ended_at)
    return JobProgress(state, item, item.started_at)


def snapshot_all(jobs: Sequence[Job[Any]]) -> list[JobSnapshot | Exception]:
    """Look up jobs of one client in one round trip; return the snapshot or the error of each.

    An id that cannot be looked up (its key has another type, say) does not affect the others.
    """

    def look_up(page: Sequence[Job[Any]]) -> list[JobSnapshot]:
        with redis_errors(page[0]._redis_url):
            return page[0]._ledger.snapshot_all([job.id for job in page])

    return isolate_failures(look_up, jobs)


def partial_texts(jobs: Sequence[Job[Any]]) -> list[str | None]:
    """Return the texts so far of jobs of one client, in one round trip; None if there is none.

    A failure counts as no text: the look-up of the state, which follows, reports it.
    """
    try:
        with outage_limit(0.0), redis_errors(jobs[0]._redis_url):
            return jobs[0]._ledger.partial_texts([job.id for job in jobs])
    except ConnectionFailed:
        return [None] * len(jobs)


def _successful(job_id: str, chunk_result: ChunkResult) -> Result:
    """Return the result of a job of one item; raise its error."""
    result = Result.of(0, chunk_result.result(0))
    if result.error is None:
        return result
    if result.error.code is ErrorCode.CANCELLED:
        raise JobCancelled(f"job {job_id} was cancelled")
    raise JobFailed(result.error.code.value, result.error.message)
