"""A row: the unit of computation in the engine, and the failures that may end it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.engine.frame import Frame
from worker.engine.halving import Failure
from worker.engine.model import Prompt, StopTexts, TextGenerator, TokenSequence
from worker.engine.request import (
    IMAGE_NEEDED,
    Answer,
    GeneratedSequence,
    GenerationOptions,
    Request,
)

if TYPE_CHECKING:
    from torch import Tensor

CANCELLED = Failure("cancelled", "The request was cancelled.")
EXPIRED = Failure("deadline_exceeded", "The deadline passed before the answer was complete.")
NOT_FINITE = Failure("internal", "The model's output for this item is not finite.")
EVICTED = Failure(IMAGE_NEEDED, "The image's features are no longer cached; send its pixels.")
INVALID_TEXT = Failure("option_invalid", "The text is not valid Unicode.")


@dataclass(slots=True, eq=False)
class Row:
    """A computation that answers one request, or several equal ones."""

    number: int
    #: The first request. It may be cancelled while others still wait for the answer.
    request: Request
    waiters: list[Request]
    #: Time of its arrival, by the engine's clock.
    arrived_at: float = 0.0
    #: Time at which its image features were at hand; None without an encoder of its own.
    encoded_at: float | None = None
    prompt: Prompt = field(default_factory=lambda: Prompt([]))
    #: The request's options for this prompt.
    options: GenerationOptions = field(init=False)
    #: The texts that end the answer, if there are any.
    stop: StopTexts | None = None
    #: Match and embed: the tokens of each text.
    texts: list[list[int]] = field(default_factory=list)
    #: Features of the image; released after the prefill.
    feature: Tensor | None = None
    #: The tokens of a candidate answer, which are scored instead of sampled; else empty.
    candidate: tuple[int, ...] = ()
    #: New tokens so far.
    tokens: list[int] = field(default_factory=list)
    #: With `output_scores`: the log-probability of each new token.
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    sequences: tuple[GeneratedSequence, ...] = ()
    scores: tuple[tuple[float, float], ...] = ()
    embedding: tuple[float, ...] = ()
    #: Rows of the step that ended the row.
    batch_rows: int = 0
    failure: Failure | None = None

    def __post_init__(self) -> None:
        self.options = self.request.options

    @property
    def interactive(self) -> bool:
        """True if an interactive request waits for the row."""
        return any(request.interactive for request in self.waiters)

    @property
    def pending_image(self) -> str | None:
        """Hash of the row's image if it is not encoded yet, else None."""
        return (self.request.image_hash or None) if self.feature is None else None

    def answer(self, request: Request) -> Answer:
        """Return the answer to one of the row's requests."""
        if self.failure is not None:
            return error_answer(request, self.failure)
        return Answer(
            request.id,
            self.text,
            len(self.tokens),
            self.scores,
            self.embedding,
            self.sequences,
            len(self.prompt.start) + len(self.prompt.source or ()),
            batch_rows=self.batch_rows,
            times=(self.arrived_at, self.encoded_at or self.arrived_at, time.monotonic()),
        )

    def finish(self, model: TextGenerator, generated: list[TokenSequence]) -> None:
        """Set the texts of the row from its generated sequences, the best first."""
        self.tokens = generated[0].tokens
        texts = [model.text(self.request, self.prompt, each.tokens) for each in generated]
        self.text = texts[0]
        if self.options.output_scores or len(generated) > 1:
            self.sequences = tuple(
                GeneratedSequence(
                    text,
                    tuple(each.tokens),
                    tuple(map(model.token_texts.text, each.tokens)),
                    tuple(each.logprobs),
                    self._is_complete(model, each.tokens),
                )
                for text, each in zip(texts, generated, strict=True)
            )

    def _is_complete(self, model: TextGenerator, tokens: list[int]) -> bool:
        if tokens[-1:] and tokens[-1] in model.decoder.eos_ids:
            return True
        return self.stop is not None and self.stop.completed_by(tokens, self.prompt.start)


def error_answer(request: Request, failure: Failure) -> Answer:
    """Return the answer to a request that failed."""
    return Answer(request.id, error_code=failure.code, error_message=failure.message)


def check_image(request: Request, feature: Tensor | None, frame: Frame) -> Failure | None:
    """Return a Failure if a request's pixels are missing or of the wrong size."""
    if request.pixels is None:
        return EVICTED if feature is None else None
    if len(request.pixels) != frame.bytes:
        size = f"{frame.width}x{frame.height}"
        return Failure("image_invalid", f"Pixels must be {size} RGB, one byte each.")
    return None
