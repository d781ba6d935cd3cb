"""Counts of a run, and the lines that show them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..contract import LASTING_CODES
from ..quantity import quantity, rate_text
from .texts.answers import BANNED

#: Seconds over which the rate is measured.
_RATE_S: Final = 30.0

#: Shows the counts while the run goes on.
OnCounts = Callable[["RunCounts"], None]


@dataclass
class RunCounts:
    """The counts of a run so far."""

    #: Images of the collection; None until it is counted.
    total: int | None = None
    #: Images whose captions this run wrote.
    done: int = 0
    #: Images that an earlier run had done.
    before: int = 0
    skipped: int = 0
    #: Skipped images whose captions an earlier run made.
    earlier: int = 0
    #: Images that get the caption of a near duplicate.
    shared: int = 0
    #: Caption files named with the suffix of their image: another image has the shorter name.
    longer_names: list[str] = field(default_factory=list)
    #: Images that the filters dropped.
    filtered: int = 0
    #: Second mentions of an image.
    repeated: int = 0
    failed: int = 0
    #: Rows of a table that are of images that the run has not seen.
    other_rows: int = 0
    removed_rows: int = 0
    #: Notes for the user.
    notes: list[str] = field(default_factory=list)
    #: Answers of the queue.
    answers: int = 0
    #: Images by error code.
    errors: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    _marks: list[tuple[float, int]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Images that have their result."""
        return self.before + self.skipped + self.filtered + self.repeated + self.failed + self.done

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float | None:
        """Images per second in the last half minute; None if it is unknown."""
        now = time.monotonic()
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and self._marks[1][0] < now - _RATE_S:
            self._marks.pop(0)
        since, done = self._marks[0]
        return (self.done - done) / (now - since) if self.done > done and now > since else None

    @property
    def can_retry(self) -> bool:
        """True if another attempt could mend an image that failed."""
        return any(code not in LASTING_CODES and code != BANNED for code in self.errors)

    def fail(self, code: str | None) -> None:
        """Count an image that failed."""
        self.failed += 1
        self.errors[code or "internal"] += 1

    def progress_note(self) -> str:
        """Return what progress shows beside the counts: rate, time left, failures."""
        parts = []
        rate = self.rate
        if rate:
            parts.append(f"{rate_text(rate)} images/s")
            if self.total is not None:
                parts.append(f"{duration(max(0, self.total - self.seen) / rate)} left")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)

    def lines(self) -> list[str]:
        """Return the summary."""
        is_known = self.done and self.seconds
        rate = f", {rate_text(self.done / self.seconds)} images/s" if is_known else ""
        parts = [f"{quantity(self.done, 'image')} annotated in {duration(self.seconds)}{rate}"]
        for count, text in (
            (self.before, "done before"),
            (self.earlier, "keep the captions of an earlier run (--existing)"),
            (self.skipped - self.earlier, "skipped: they have captions (--existing)"),
            (self.filtered, "filtered out"),
            (self.repeated, "named twice"),
            (self.shared, "with the caption of a near duplicate"),
        ):
            if count:
                parts.append(f"{count:,} {text}")
        if self.longer_names:
            files = quantity(len(self.longer_names), "caption file")
            name = os.path.basename(self.longer_names[0])
            parts.append(f"{files} named as {name}: the shorter name is that of another image")
        if self.removed_rows:
            parts.append(f"{quantity(self.removed_rows, 'row')} removed (--prune)")
        if self.other_rows:
            parts.append(f"{quantity(self.other_rows, 'row')} of images outside this run")
        if self.failed:
            codes = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common())
            parts.append(f"{self.failed:,} failed: {codes}")
        return parts

    def to_json(self) -> dict[str, Any]:
        """Return the summary for programs."""
        return {
            "annotated": self.done,
            "done_before": self.before,
            "skipped": self.skipped,
            "of_earlier_run": self.earlier,
            "near_duplicates": self.shared,
            "filtered": self.filtered,
            "named_twice": self.repeated,
            "failed": self.failed,
            "other_rows": self.other_rows,
            "removed_rows": self.removed_rows,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 3),
        }


def duration(seconds: float) -> str:
    """Return a duration for people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
