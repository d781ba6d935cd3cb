"""A handle on one job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Generic, TypeVar

from .connection.connect import redis_errors
from .contract import ErrorCode, ItemError, State
from .errors import JobCancelled, JobExpired, JobFailed, JobUnknown, WaitTimeout
from .ledger.isolation import isolate_failures
from .ledger.ledger import Ledger
from .ledger.records import ChunkResult
from .polling import PollSchedule

Value = TypeVar("Value")

#: What is known of a job: its state, and how it ended if it did.
JobSnapshot = tuple[State, ChunkResult | None]

#: Seconds between two looks at a job at most.
LONGEST_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Match:
    """How well a text fits an image."""

    text: str
    #: That the text describes the image, 0 to 1 (image-text matching).
    probability: float
    #: Of the embeddings of both, -1 to 1 (image-text contrast).
    cosine: float

    @classmethod
    def of(cls, match: dict[str, Any]) -> Match:
        """Read one entry; a newer worker may say more than is known here."""
        return cls(match["text"], match["probability"], match["cosine"])


@dataclass(frozen=True, slots=True)
class Result:
    """How one item ended."""

    #: Place among the items that were submitted, from 0.
    index: int
    custom_id: str | None
    #: Of a match the likeliest of its texts; of an embedding None.
    text: str | None
    error: ItemError | None
    #: Match: each of the texts, in their order.
    matches: list[Match] | None = None
    #: Embed: the unit vector.
    embedding: list[float] | None = None
    #: Where a batch's results go on after this one.
    cursor: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @classmethod
    def of(cls, index: int, result: dict[str, Any], cursor: int = 0) -> Result:
        """Read one entry of a chunk's result."""
        error, matches = result.get("error"), result.get("matches")
        return cls(
            index,
            result.get("custom_id"),
            result.get("text"),
            None if error is None else ItemError.model_validate(error),
            None if matches is None else [Match.of(match) for match in matches],
            result.get("embedding"),
            cursor,
        )

    def to_json(self) -> dict[str, Any]:
        """The line of a results file."""
        line: dict[str, Any] = {"custom_id": self.custom_id, "status": "ok" if self.ok else "error"}
        return line | self.output()

    def output(self) -> dict[str, Any]:
        """What the task gave, or the error."""
        if self.error is not None:
            return {"error": self.error.model_dump(mode="json")}
        if self.embedding is not None:
            return {"embedding": self.embedding}
        if self.matches is not None:
            return {"text": self.text, "matches": [asdict(match) for match in self.matches]}
        return {"text": self.text}


def any_value(result: Result) -> Any:
    """What a job's task gives: a text, a list of matches, or a vector."""
    if result.embedding is not None:
        return result.embedding
    return result.text or "" if result.matches is None else result.matches


class Job(Generic[Value]):
    """One submitted job. Every method asks Redis anew; any process may hold a handle."""

    def __init__(
        self,
        job_id: str,
        ledger: Ledger,
        redis_url: str,
        value: Callable[[Result], Value] = any_value,
    ) -> None:
        self.id = job_id
        self._ledger = ledger
        self._redis_url = redis_url
        self._value = value

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> State:
        """Where the job stands."""
        return self._look_up()[0]

    def look(self, wait_s: float = 0.0) -> tuple[State, Result | None]:
        """Where the job stands, and how its item ended once it has; waits so long for its end."""
        return state_and_result(self._wait(wait_s))

    def note(self) -> str | None:
        """What it was submitted with; None where there is no such job, or it noted nothing."""
        with redis_errors(self._redis_url):
            return self._ledger.metadata(self.id)

    def cancel(self) -> None:
        """Say that the answer is no longer wanted; a job that has ended stays as it is."""
        with redis_errors(self._redis_url):
            self._ledger.cancel(self.id)

    def result(self, timeout: float | None = None) -> Value:
        """Wait for the answer; `timeout` in seconds, None waits for as long as the job is known.

        A text for captions, questions and dialogues, matches in the order of the texts, a vector
        for an embedding.

        Raises JobFailed, JobCancelled, JobExpired or JobUnknown when there will be none,
        WaitTimeout when it has not come in time, ConnectionFailed when Redis is away.
        """
        return self.value(self._wait(timeout), timeout)

    def value(self, look: JobSnapshot, timeout: float | None) -> Value:
        """What `result` returns or raises where this is what the last look said."""
        state, outcome = look
        if outcome is not None:
            return self._value(_ended_well(self.id, outcome))
        _raise_if_over(self.id, state)
        raise WaitTimeout(_waited(self.id, timeout, state))

    def _wait(self, timeout: float | None) -> JobSnapshot:
        patience = PollSchedule(timeout, LONGEST_PAUSE_S)
        while not is_over(look := self._look_up()) and patience.pause():
            pass
        return look

    def _look_up(self) -> JobSnapshot:
        with redis_errors(self._redis_url):
            return self._ledger.snapshot(self.id)


def is_over(look: JobSnapshot) -> bool:
    """Whether waiting on would change nothing."""
    return look[0] not in (State.QUEUED, State.RUNNING)


def state_and_result(look: JobSnapshot) -> tuple[State, Result | None]:
    """What a look says of a job of one item."""
    state, outcome = look
    return state, None if outcome is None else Result.of(0, outcome.result(0))


def snapshot_all(jobs: Sequence[Job[Any]]) -> list[JobSnapshot | Exception]:
    """What is known of jobs of one client, in one round trip; what was raised, where nothing is.

    An id that cannot be looked up, such as one whose key holds something else, harms no other.
    """

    def look_up(some: Sequence[Job[Any]]) -> list[JobSnapshot]:
        with redis_errors(some[0]._redis_url):
            return some[0]._ledger.snapshot_all([job.id for job in some])

    return isolate_failures(look_up, jobs)


def _ended_well(job_id: str, outcome: ChunkResult) -> Result:
    result = Result.of(0, outcome.result(0))
    if result.error is None:
        return result
    if result.error.code is ErrorCode.CANCELLED:
        raise JobCancelled(f"job {job_id} was cancelled")
    raise JobFailed(result.error.code.value, result.error.message)


def _raise_if_over(job_id: str, state: State) -> None:
    if state is State.CANCELLED:
        raise JobCancelled(f"job {job_id} was cancelled")
    if state is State.EXPIRED:
        raise JobExpired(f"job {job_id} has finished, and its result is no longer kept")
    if state is State.UNKNOWN:
        raise JobUnknown(f"no job {job_id} was submitted to this Redis")


def _waited(job_id: str, timeout: float | None, state: State) -> str:
    if state is State.QUEUED:
        return (
            f"job {job_id}: no worker has begun it after {timeout:g} s. "
            "Is one running on this Redis (`python -m worker`)? The job stays queued"
        )
    return f"job {job_id}: no result after {timeout:g} s; it is still {state.value}"
