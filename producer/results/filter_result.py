"""The result of CapFilt: the texts that match their image, and those that do not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..contract import ItemResult, ScoredTextPayload, TextSource


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text about an image, with its scores."""

    text: str
    #: "web": a text of the item; "synthetic": a generated caption.
    source: TextSource
    #: Probability that the text describes the image, 0 to 1 (image-text matching).
    probability: float
    #: Cosine of the two embeddings, -1 to 1 (image-text contrast).
    cosine: float

    @classmethod
    def of(cls, text: ScoredTextPayload) -> ScoredText:
        """Read a text; ignore the unknown fields of a newer worker."""
        return cls(text["text"], text["source"], text["probability"], text["cosine"])


@dataclass(frozen=True, slots=True)
class FilterResult:
    """The accepted and the rejected texts of an image, those of the web before synthetic ones."""

    #: The most probable of the accepted texts; "" if none is accepted.
    text: str
    accepted: list[ScoredText]
    rejected: list[ScoredText]

    @classmethod
    def of(cls, result: ItemResult) -> FilterResult | None:
        """Read the result of an item; None if its task is not CapFilt."""
        if "accepted" not in result:
            return None
        return cls(
            result["text"],
            [ScoredText.of(text) for text in result["accepted"]],
            [ScoredText.of(text) for text in result["rejected"]],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the result."""
        return asdict(self)
