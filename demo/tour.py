"""Caption every sample picture, ask the same questions about each, and check the captions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from demo.articles import substitute
from demo.scenes import COLORS
from producer import Client, Result, Task

IMAGES: Final = Path(__file__).with_name("images")
SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp"}
QUESTIONS: Final = ("what color is the background?", "how many shapes are there?")

#: Seconds without any further result after which something must be wrong.
PATIENCE_S: Final = 60.0

#: A function called with the number of items that have their result so far.
OnDone = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A picture's caption beside the same with a color that is not there."""

    true: str
    false: str
    result: Result

    @property
    def verdicts(self) -> tuple[tuple[str, float], ...]:
        """Return each color with P(match) of the caption that names it, the true color first.

        Empty where there is no result.
        """
        matches = self.result.matches or []
        colors = (self.true, self.false)
        pairs = zip(colors, matches, strict=False)
        return tuple((color, match.probability) for color, match in pairs)


@dataclass(frozen=True, slots=True)
class Report:
    """The models' answers about a picture."""

    image: Path
    caption: Result
    #: In the order of QUESTIONS.
    answers: tuple[Result, ...]
    #: None where the caption names no color, or nobody can check it.
    check: Check | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """Return all results, the caption first."""
        checked = () if self.check is None else (self.check.result,)
        return (self.caption, *self.answers, *checked)


@dataclass(frozen=True, slots=True)
class Tour:
    """The reports on all pictures, and the time from the submit to the last result."""

    reports: Sequence[Report]
    seconds: float

    @property
    def items(self) -> int:
        """Return the number of captions, answers and checks."""
        return sum(len(report.results) for report in self.reports)

    @property
    def failed(self) -> int:
        """Return the number of items that ended with an error."""
        return sum(not result.ok for report in self.reports for result in report.results)


def pictures() -> list[Path]:
    """Return the sample pictures, by name."""
    return sorted(path for path in IMAGES.iterdir() if path.suffix.lower() in SUFFIXES)


def take(client: Client, images: Sequence[Path], on_done: OnDone, *, checked: bool = True) -> Tour:
    """Submit captions and questions in a batch, then, if `checked`, checks of the captions.

    `on_done` is called with the number of items that have their result so far. Raises WaitTimeout
    when results stop coming.
    """
    start = time.monotonic()
    reports = _report(client, images, on_done)
    if checked:
        reports = _check(client, reports, on_done)
    return Tour(reports, time.monotonic() - start)


def wording(result: Result) -> str:
    """Return the text of a result, or its error."""
    if result.error is not None:
        return f"{result.error.code}: {result.error.message}"
    return result.text or ""


def recolored(caption: str) -> tuple[str, str, str] | None:
    """Return a color that the caption names, a different color, and the caption with that color.

    None where the caption names no color.
    """
    words = caption.split()
    true = next((word for word in words if word in COLORS), None)
    if true is None:
        return None
    # The next in the list: every color has its turn, and every run the same.
    turn = COLORS.index(true)
    false = next(color for color in COLORS[turn + 1 :] + COLORS[:turn] if color not in words)
    return true, false, " ".join(substitute(words, words.index(true), false))


def _report(client: Client, images: Sequence[Path], on_done: OnDone) -> list[Report]:
    results = _results(client, _items(images), on_done)
    # Results come in the order of the items: a caption, then the answers about its picture.
    turns = [iter(results)] * (1 + len(QUESTIONS))
    return [
        Report(image, caption, tuple(answers))
        for image, (caption, *answers) in zip(images, zip(*turns, strict=True), strict=True)
    ]


def _check(client: Client, reports: Sequence[Report], on_done: OnDone) -> list[Report]:
    before = sum(len(report.results) for report in reports)
    changes = [recolored(report.caption.text or "") for report in reports]
    items = [
        {
            "image": str(report.image),
            "task": Task.MATCH.short,
            "texts": [report.caption.text, change[2]],
        }
        for report, change in zip(reports, changes, strict=True)
        if change is not None
    ]
    results = iter(_results(client, items, lambda done: on_done(before + done)))
    return [
        report if change is None else replace(report, check=Check(*change[:2], next(results)))
        for report, change in zip(reports, changes, strict=True)
    ]


def _results(client: Client, items: Iterable[dict[str, Any]], on_done: OnDone) -> list[Result]:
    results = []
    for result in client.submit_batch(items).results(timeout=PATIENCE_S):
        results.append(result)
        on_done(len(results))
    return results


def _items(images: Sequence[Path]) -> Iterator[dict[str, Any]]:
    # Side by side, a picture's items share one run of the vision encoder.
    for image in images:
        yield {"image": str(image), "task": Task.CAPTION.short}
        for question in QUESTIONS:
            yield {"image": str(image), "task": Task.VQA.short, "question": question}
