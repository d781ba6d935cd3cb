"""Caption every sample picture, ask the same questions about each, and check the captions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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

#: Hears how many items have their result so far.
OnDone = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A picture's caption beside the same with one word wrong: a color that is not there."""

    right: str
    wrong: str
    result: Result

    @property
    def verdicts(self) -> tuple[tuple[str, float], ...]:
        """Each of the two colors with P(match) of the caption that names it, the right one first.

        Empty where there is no result.
        """
        matches = self.result.matches or []
        colors = (self.right, self.wrong)
        return tuple((color, one.probability) for color, one in zip(colors, matches, strict=False))


@dataclass(frozen=True, slots=True)
class Told:
    """What the models say of one picture."""

    image: Path
    caption: Result
    #: One for each of QUESTIONS.
    answers: tuple[Result, ...]
    #: None where the caption names no color, or nobody can check it.
    check: Check | None = None

    @property
    def results(self) -> tuple[Result, ...]:
        """Everything said, the caption first."""
        checked = () if self.check is None else (self.check.result,)
        return (self.caption, *self.answers, *checked)


@dataclass(frozen=True, slots=True)
class Tour:
    """All pictures, and how long they took from the submit to the last result."""

    told: Sequence[Told]
    seconds: float

    @property
    def items(self) -> int:
        """Captions, answers and checks."""
        return sum(len(one.results) for one in self.told)

    @property
    def failed(self) -> int:
        """Items that ended with an error."""
        return sum(not result.ok for one in self.told for result in one.results)


def pictures() -> list[Path]:
    """The sample pictures, by name."""
    return sorted(path for path in IMAGES.iterdir() if path.suffix.lower() in SUFFIXES)


def take(client: Client, images: Sequence[Path], on_done: OnDone, *, checked: bool = True) -> Tour:
    """Submit a batch of captions and questions, then, if wanted, one that checks the captions.

    `on_done` hears how many items have their result so far. Raises WaitTimeout when results stop
    coming.
    """
    began = time.monotonic()
    told = _tell(client, images, on_done)
    if checked:
        told = _check(client, told, on_done)
    return Tour(told, time.monotonic() - began)


def said(result: Result) -> str:
    """The text of a result, or why there is none."""
    if result.error is not None:
        return f"{result.error.code}: {result.error.message}"
    return result.text or ""


def recolored(caption: str) -> tuple[str, str, str] | None:
    """A color that the caption names, one that it does not, and the caption with that one.

    None where it names none.
    """
    words = caption.split()
    right = next((word for word in words if word in COLORS), None)
    if right is None:
        return None
    # The next in the list: every color has its turn, and every run the same.
    turn = COLORS.index(right)
    wrong = next(one for one in COLORS[turn + 1 :] + COLORS[:turn] if one not in words)
    return right, wrong, " ".join(substitute(words, words.index(right), wrong))


def _tell(client: Client, images: Sequence[Path], on_done: OnDone) -> list[Told]:
    results = _results(client, _items(images), on_done)
    # Results come in the order of the items: a caption, then the answers about its picture.
    turns = [iter(results)] * (1 + len(QUESTIONS))
    return [
        Told(image, caption, tuple(answers))
        for image, (caption, *answers) in zip(images, zip(*turns, strict=True), strict=True)
    ]


def _check(client: Client, told: Sequence[Told], on_done: OnDone) -> list[Told]:
    before = sum(len(one.results) for one in told)
    changed = [recolored(one.caption.text or "") for one in told]
    items = [
        {"image": str(one.image), "task": Task.MATCH.short, "texts": [one.caption.text, change[2]]}
        for one, change in zip(told, changed, strict=True)
        if change is not None
    ]
    results = iter(_results(client, items, lambda done: on_done(before + done)))
    return [
        one
        if change is None
        else Told(one.image, one.caption, one.answers, Check(*change[:2], next(results)))
        for one, change in zip(told, changed, strict=True)
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
