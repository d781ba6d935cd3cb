"""A long description of an image, and the texts that it was composed of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..contract import CandidatePayload, ItemResult, Ranking


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that the model generated for a description."""

    text: str
    #: Prompt of the text; in later rounds it follows the description so far.
    prompt: str
    #: Number of the round, from 1.
    round: int
    #: Mean probability of its sentences, 0 to 1; without a matching model, the number of new words.
    score: float
    #: True if the description contains a sentence of it.
    used: bool

    @classmethod
    def of(cls, candidate: CandidatePayload) -> Candidate:
        """Read a candidate; ignore the unknown fields of a newer worker."""
        return cls(
            candidate["text"],
            candidate["prompt"],
            candidate["round"],
            candidate["score"],
            candidate["used"],
        )


@dataclass(frozen=True, slots=True)
class Description:
    """A description of an image."""

    text: str
    characters: int
    words: int
    #: All generated texts, in the order of rounds and prompts.
    candidates: list[Candidate]
    #: Rounds that ran.
    rounds: int
    #: Seconds from the first round to the text.
    seconds: float
    #: "match": sentences are ranked by image-text matching; "length": by length and novelty.
    ranked_by: Ranking
    #: The text before polishing, if a language model has polished it.
    unpolished: str | None = None
    #: Reason that the text is not polished although the worker is set to do so.
    warning: str | None = None

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, result: ItemResult) -> Description | None:
        """Read the result of an item; None if it is not a description."""
        if "candidates" not in result:
            return None
        return cls(
            result["text"],
            result["characters"],
            result["words"],
            [Candidate.of(candidate) for candidate in result["candidates"]],
            result["rounds"],
            result["seconds"],
            result["ranked_by"],
            result.get("unpolished"),
            result.get("warning"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the result, without those that are not set."""
        return {name: value for name, value in asdict(self).items() if value is not None}
