"""Progress of `benchmarks.gpu`: parts within a time budget, and notes on those that fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

Result = TypeVar("Result")

#: Expected time of a part in relation to the longest of its kind so far: it may have more rows.
GROWTH: Final = 1.5


class Progress:
    """A runner of parts that prints lines, and writes the results to a file if one is set."""

    def __init__(self, budget_s: float, first_guess_s: float, output: Path | None) -> None:
        self.started = time.perf_counter()
        self.budget_s, self.output = budget_s, output
        #: Expected seconds of a part whose kind has not run yet.
        self.first_guess_s = first_guess_s
        self.longest: dict[str, float] = {}
        self.notes: list[str] = []
        self.results: dict[str, Any] = {"notes": self.notes}
        #: True after an error that makes every further part fail.
        self.broken = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def report(self, line: str) -> None:
        """Print a line and write the results so far."""
        print(f"{self.elapsed_s:6.1f} s  {line}", flush=True)
        if self.output:
            self.output.write_text(json.dumps(self.results, indent=2) + "\n")

    def note(self, line: str) -> None:
        """Report a line that is repeated below the tables."""
        self.notes.append(line)
        self.report(line)

    def part(self, kind: str, name: str, work: Callable[[], Result]) -> Result | None:
        """Run a part and return its result; None, with a note, if it fails or is skipped."""
        expected_s = self.longest.get(kind, self.first_guess_s) * GROWTH
        if self.broken or self.elapsed_s + expected_s > self.budget_s:
            reason = "the device is broken" if self.broken else "the time budget is used up"
            self.note(f"{name}: skipped, {reason}")
            return None
        started = self.elapsed_s
        try:
            return work()
        except torch.AcceleratorError as error:
            # Every further part would fail as well.
            self.broken = True
            self.note(f"{name}: {first_line(error)}")
        except Exception as error:
            self.note(f"{name}: {first_line(error)}")
        finally:
            self.longest[kind] = max(self.longest.get(kind, 0.0), self.elapsed_s - started)
        return None


def first_line(error: Exception) -> str:
    """Format an error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
