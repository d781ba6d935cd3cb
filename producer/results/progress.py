"""The progress of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..contract import RESULT_TTL_S, State, Task


@dataclass(frozen=True, slots=True)
class Progress:
    """The counts of a batch at one moment."""

    total: int
    done: int
    failed: int
    #: True once all items are submitted, so that `total` is final.
    submitted: bool
    cancelled: bool
    #: Recent rate in items per second; None if it is unknown or all items are done.
    rate: float | None = None
    #: Seconds since the last submission of items.
    silent_s: float = 0.0
    #: Task of the items that do not name one.
    task: Task = Task.CAPTION
    #: Note of the submission.
    note: str = ""
    #: True if the submission was interrupted: `total` is final unless the same items are submitted
    #: again.
    cut: bool = False
    #: Unix s at which a worker claimed the first items, and at which the last ones ended; None: not
    #: yet, or a worker of an earlier version did.
    started_at: float | None = None
    ended_at: float | None = None
    #: Seconds that results are stored.
    keep_s: int = RESULT_TTL_S

    @classmethod
    def of(cls, fields: dict[bytes, bytes], cancelled: bool, now: float) -> Self:
        """Read the record of a batch; `now` is the current time in Unix seconds."""
        total, done, failed = (int(fields[name]) for name in (b"total", b"done", b"failed"))
        return cls(
            total,
            done,
            failed,
            submitted=fields[b"submitted"] == b"1",
            cancelled=cancelled,
            rate=None if done == total else _rate(fields, done, now),
            silent_s=now - float(fields[b"heard_at"]),
            task=Task(fields[b"task"].decode()),
            note=fields.get(b"note", b"").decode(),
            cut=b"cut" in fields,
            started_at=_time(fields, b"started_at"),
            ended_at=_time(fields, b"ended_at"),
            keep_s=int(fields[b"keep_s"]),
        )

    @property
    def expires_at(self) -> float | None:
        """Unix s until which all results are stored; None before the end."""
        return None if self.ended_at is None else round(self.ended_at + self.keep_s, 3)

    @property
    def finished(self) -> bool:
        """True if every item has its result."""
        return self.submitted and self.done == self.total

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this rate; None if it is unknown."""
        if self.finished:
            return 0.0
        if not self.rate or not self.submitted:
            return None
        return (self.total - self.done) / self.rate

    @property
    def state(self) -> State:
        """The state of the whole batch; `failed` if any item failed."""
        if self.cancelled:
            return State.CANCELLED
        if self.finished:
            return State.FAILED if self.failed else State.DONE
        return State.RUNNING if self.done else State.QUEUED


def _time(fields: dict[bytes, bytes], name: bytes) -> float | None:
    return float(fields[name]) if name in fields else None


def _rate(fields: dict[bytes, bytes], done: int, now: float) -> float | None:
    """Return the items per second since the older of the two marks in the ledger."""
    if b"before_at" not in fields:
        return None
    seconds = now - float(fields[b"before_at"])
    items = done - int(fields[b"before_done"])
    return items / seconds if seconds > 0 and items > 0 else None
