"""How `benchmarks.gpu` gets through its parts: within its time, whatever fails on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

Result = TypeVar("Result")

#: A part may take longer than the longest of its kind so far: it has more rows.
LONGER: Final = 1.5


class Progress:
    """Runs parts, prints lines, and keeps `found` in a file as well, if there is to be one."""

    def __init__(self, budget_s: float, first_guess_s: float, output: Path | None) -> None:
        self.began = time.perf_counter()
        self.budget_s, self.output = budget_s, output
        #: Seconds that a part of some kind is expected to take before one has run.
        self.first_guess_s = first_guess_s
        self.longest: dict[str, float] = {}
        self.notes: list[str] = []
        self.found: dict[str, Any] = {"notes": self.notes}
        #: No part can work any more.
        self.broken = False

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    def say(self, line: str) -> None:
        """Tell it now, and write down all that is known so far."""
        print(f"{self.elapsed_s:6.1f} s  {line}", flush=True)
        if self.output:
            self.output.write_text(json.dumps(self.found, indent=2) + "\n")

    def note(self, line: str) -> None:
        """What the tables have to be read with."""
        self.notes.append(line)
        self.say(line)

    def part(self, kind: str, name: str, work: Callable[[], Result]) -> Result | None:
        """The result; None, and a note, where there is none."""
        expected_s = self.longest.get(kind, self.first_guess_s) * LONGER
        if self.broken or self.elapsed_s + expected_s > self.budget_s:
            reason = "the device is broken" if self.broken else "no time is left"
            self.note(f"{name}: skipped, {reason}")
            return None
        began = self.elapsed_s
        try:
            return work()
        except torch.AcceleratorError as error:
            # Whatever comes after it would fail as well.
            self.broken = True
            self.note(f"{name}: {first_line(error)}")
        except Exception as error:
            self.note(f"{name}: {first_line(error)}")
        finally:
            self.longest[kind] = max(self.longest.get(kind, 0.0), self.elapsed_s - began)
        return None


def first_line(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
