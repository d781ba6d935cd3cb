"""A piece of work on its way through the engine, and why it may end without a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.engine.halving import Failure
from worker.engine.model import Prompt
from worker.engine.request import IMAGE_NEEDED, Answer, Request

if TYPE_CHECKING:
    from torch import Tensor

CANCELLED = Failure("cancelled", "The request was cancelled.")
EXPIRED = Failure("deadline_exceeded", "The deadline passed before the answer was complete.")
NOT_FINITE = Failure("internal", "The model computed no finite numbers for this row.")
EVICTED = Failure(IMAGE_NEEDED, "The image's features are gone; send its pixels again.")
NO_TEXT = Failure("option_invalid", "The text is not valid Unicode.")


@dataclass(slots=True, eq=False)
class Row:
    """What is computed once, for one request or for several that ask the same."""

    number: int
    #: What is asked. It may itself have been cancelled while others still wait for the answer.
    request: Request
    waiters: list[Request]
    prompt: Prompt = field(default_factory=lambda: Prompt([]))
    #: Match and embed: the texts, as tokens.
    texts: list[list[int]] = field(default_factory=list)
    #: Of the image; let go once the row has been prefilled.
    feature: Tensor | None = None
    #: New tokens so far.
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    scores: tuple[tuple[float, float], ...] = ()
    embedding: tuple[float, ...] = ()
    failure: Failure | None = None

    @property
    def interactive(self) -> bool:
        """Whether anybody waits for it at this moment."""
        return any(request.interactive for request in self.waiters)

    @property
    def pending_image(self) -> str | None:
        """Its image, if that is still to be encoded."""
        return (self.request.image_hash or None) if self.feature is None else None

    def answer(self, request: Request) -> Answer:
        """The end of one of those who asked."""
        if self.failure is not None:
            return refusal(request, self.failure)
        return Answer(request.id, self.text, len(self.tokens), self.scores, self.embedding)


def refusal(request: Request, failure: Failure) -> Answer:
    """The end of a request that has no result."""
    return Answer(request.id, error_code=failure.code, error_message=failure.message)


def wrong_image(request: Request, feature: Tensor | None, size: int) -> Failure | None:
    """What is wrong with a request's pixels, or None."""
    if request.pixels is None:
        return EVICTED if feature is None else None
    if len(request.pixels) != size * size * 3:
        return Failure("image_invalid", f"Pixels must be {size}x{size} RGB, one byte each.")
    return None
