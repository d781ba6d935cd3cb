"""Results of items, as clients read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..contract import ItemError, ItemResult, MatchPayload, State
from .description import Description
from .filter_result import FilterResult
from .text_sequences import TextSequence, TextSequences


@dataclass(frozen=True, slots=True)
class Match:
    """Scores of a text for an image."""

    text: str
    #: Probability that the text describes the image, 0 to 1 (image-text matching).
    probability: float
    #: Cosine of the two embeddings, -1 to 1 (image-text contrast).
    cosine: float

    @classmethod
    def of(cls, match: MatchPayload) -> Match:
        """Read a match; ignore the unknown fields of a newer worker."""
        return cls(match["text"], match["probability"], match["cosine"])


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one item."""

    #: Index among the submitted items, from 0.
    index: int
    custom_id: str | None
    #: Match: the likeliest of the texts; embedding: None.
    text: str | None
    error: ItemError | None
    #: Match: the scores of each text, in order.
    matches: list[Match] | None = None
    #: Embedding: the unit vector.
    embedding: list[float] | None = None
    #: Position after this result in its batch.
    cursor: int = 0
    #: Description: the text with its candidates.
    description: Description | None = None
    #: CapFilt: the accepted and the rejected texts; `text` is the best accepted.
    filter_result: FilterResult | None = None
    #: Embedding: revision of the worker's model; '' if the worker is of an earlier version.
    revision: str = ""
    #: Caption, vqa and chat, with `output_scores` or `num_return_sequences`: all texts.
    text_sequences: TextSequences | None = None
    #: Single jobs: Unix s at which a worker started the job and at which it ended; None: unknown.
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def sequences(self) -> list[TextSequence]:
        """The texts of a caption, vqa or chat job, the best beam or the first sample first."""
        if self.text_sequences is None:
            return [TextSequence(self.text or "")]
        return [*self.text_sequences.texts]

    @property
    def ok(self) -> bool:
        """True if the item did not fail."""
        return self.error is None

    @classmethod
    def of(cls, index: int, result: ItemResult, cursor: int = 0) -> Result:
        """Read the result of an item."""
        error, matches = result.get("error"), result.get("matches")
        return cls(
            index,
            result.get("custom_id"),
            result.get("text"),
            None if error is None else ItemError.model_validate(error),
            None if matches is None else [Match.of(match) for match in matches],
            result.get("embedding"),
            cursor,
            Description.of(result),
            FilterResult.of(result),
            result.get("revision", ""),
            TextSequences.of(result),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the line of a results file."""
        line: dict[str, Any] = {"custom_id": self.custom_id, "status": "ok" if self.ok else "error"}
        return line | self.output()

    def output(self) -> dict[str, Any]:
        """Return the fields of the task, or the error."""
        if self.error is not None:
            return {"error": self.error.model_dump(mode="json")}
        if self.embedding is not None:
            return {"embedding": self.embedding}
        if self.description is not None:
            return self.description.to_json()
        if self.filter_result is not None:
            return self.filter_result.to_json()
        if self.matches is not None:
            return {"text": self.text, "matches": [asdict(match) for match in self.matches]}
        return {"text": self.text} | (self.text_sequences.to_json() if self.text_sequences else {})


class JobProgress(NamedTuple):
    """The state of a job at one moment."""

    state: State
    #: The result of an ended job.
    result: Result | None = None
    #: Unix s at which a worker started the job; after the death of a worker, the last start. None:
    #: the job waits, no worker has run it, or one of an earlier version has.
    started_at: float | None = None
