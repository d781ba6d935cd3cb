"""Caption every sample picture and ask the same questions about each, as one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from producer import Client, Result, Task

IMAGES: Final = Path(__file__).with_name("images")
SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".webp"}
QUESTIONS: Final = ("what color is the background?", "how many shapes are there?")

#: Seconds without any further result after which something must be wrong.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the model says of one picture."""

    image: Path
    caption: Result
    #: One for each of QUESTIONS.
    answers: tuple[Result, ...]

    @property
    def results(self) -> tuple[Result, ...]:
        """Everything said, the caption first."""
        return (self.caption, *self.answers)


@dataclass(frozen=True, slots=True)
class Tour:
    """All pictures, and how long they took from the submit to the last result."""

    told: Sequence[Told]
    seconds: float

    @property
    def items(self) -> int:
        """Captions and answers."""
        return sum(len(one.results) for one in self.told)

    @property
    def failed(self) -> int:
        """Items that ended with an error."""
        return sum(not result.ok for one in self.told for result in one.results)


def pictures() -> list[Path]:
    """The sample pictures, by name."""
    return sorted(path for path in IMAGES.iterdir() if path.suffix.lower() in SUFFIXES)


def take(client: Client, images: Sequence[Path], on_done: Callable[[int], None]) -> Tour:
    """Submit one batch and wait for it; `on_done` hears how many items are answered so far.

    Raises WaitTimeout when results stop coming.
    """
    began = time.monotonic()
    batch = client.submit_batch(_items(images))
    results = []
    for result in batch.results(timeout=PATIENCE_S):
        results.append(result)
        on_done(len(results))
    seconds = time.monotonic() - began
    # Results come in the order of the items: a caption, then the answers about its picture.
    turns = [iter(results)] * (1 + len(QUESTIONS))
    told = [
        Told(image, caption, tuple(answers))
        for image, (caption, *answers) in zip(images, zip(*turns, strict=True), strict=True)
    ]
    return Tour(told, seconds)


def said(result: Result) -> str:
    """The text of a result, or why there is none."""
    if result.error is not None:
        return f"{result.error.code}: {result.error.message}"
    return result.text or ""


def _items(images: Sequence[Path]) -> Iterator[dict[str, Any]]:
    # Side by side, a picture's items share one run of the vision encoder.
    for image in images:
        yield {"image": str(image), "task": Task.CAPTION.short}
        for question in QUESTIONS:
            yield {"image": str(image), "task": Task.VQA.short, "question": question}
