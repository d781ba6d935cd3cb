"""A handle on one job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .connection import reaching
from .contract import ErrorCode, ItemError, State
from .errors import JobCancelled, JobExpired, JobFailed, JobUnknown, WaitTimeout
from .ledger import Ledger, Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """How one item ended."""

    #: Place among the items that were submitted, from 0.
    index: int
    custom_id: str | None
    text: str | None
    error: ItemError | None

    @property
    def ok(self) -> bool:
        """Whether there is a text."""
        return self.error is None

    @classmethod
    def of(cls, index: int, result: dict[str, Any]) -> Result:
        """Read one entry of a chunk's result."""
        error = result.get("error")
        return cls(
            index,
            result.get("custom_id"),
            result.get("text"),
            None if error is None else ItemError.model_validate(error),
        )

    def to_json(self) -> dict[str, Any]:
        """The line of a results file."""
        line: dict[str, Any] = {"custom_id": self.custom_id, "status": "ok" if self.ok else "error"}
        if self.error is None:
            return line | {"text": self.text}
        return line | {"error": self.error.model_dump(mode="json")}


class Job:
    """One submitted job. Every method asks Redis anew; any process may hold a handle."""

    def __init__(self, job_id: str, ledger: Ledger, redis_url: str) -> None:
        self.id = job_id
        self._ledger = ledger
        self._redis_url = redis_url

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> State:
        """Where the job stands."""
        return self._look_up()[0]

    def cancel(self) -> None:
        """Say that the answer is no longer wanted; a job that has ended stays as it is."""
        with reaching(self._redis_url):
            self._ledger.cancel(self.id)

    def result(self, timeout: float | None = None) -> str:
        """Wait for the text; `timeout` in seconds, None waits for as long as the job is known.

        Raises JobFailed, JobCancelled, JobExpired or JobUnknown when there will be none,
        WaitTimeout when it has not come in time, ConnectionFailed when Redis is away.
        """
        patience = Patience(timeout, longest_pause_s=0.1)
        while True:
            state, outcome = self._look_up()
            if outcome is not None:
                return _text(self.id, outcome)
            _raise_if_over(self.id, state)
            if not patience.pause():
                raise WaitTimeout(_waited(self.id, timeout, state))

    def _look_up(self) -> tuple[State, Outcome | None]:
        with reaching(self._redis_url):
            return self._ledger.look_up(self.id)


class Patience:
    """Paces the looks of a poller, and ends them.

    A pause is an eighth of the time waited so far, within bounds: a poller hears of a result at
    most an eighth later than it could, whatever the scale of its wait.
    """

    def __init__(self, timeout: float | None, longest_pause_s: float) -> None:
        self._began = time.monotonic()
        self._deadline = None if timeout is None else self._began + timeout
        self._longest_pause_s = longest_pause_s

    def pause(self) -> bool:
        """Sleep until the next look; False, at once, when the time is up."""
        now = time.monotonic()
        pause_s = min(max((now - self._began) / 8, 0.001), self._longest_pause_s)
        if self._deadline is not None:
            if now >= self._deadline:
                return False
            pause_s = min(pause_s, self._deadline - now)
        time.sleep(pause_s)
        return True


def _text(job_id: str, outcome: Outcome) -> str:
    result = Result.of(0, outcome.result(0))
    if result.error is None:
        return result.text or ""
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
