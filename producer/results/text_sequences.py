"""Generated texts of one item, with their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

from ..contract import ItemResult, SequencePayload, TokenPayload


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A generated token and its log-probability after all options."""

    id: int
    #: With the space before it if it begins a word.
    text: str
    logprob: float

    @classmethod
    def of(cls, token: TokenPayload) -> Self:
        """Read a token; ignore the unknown fields of a newer worker."""
        return cls(token["id"], token["text"], token["logprob"])


@dataclass(frozen=True, slots=True)
class TextSequence:
    """One of the texts of an item, or one of its ranked answers.

    The fields below `text` need the option `output_scores`; ranked answers always have `logprob`.
    """

    text: str
    #: Sum of the log-probabilities of its tokens.
    logprob: float | None = None
    #: New tokens, the end token included.
    tokens: tuple[ScoredToken, ...] = ()
    #: `stop`, or `length` if the text was cut at its maximum length.
    finish_reason: str | None = None
    #: Ranked answers: the probability among all answers of the list.
    probability: float | None = None

    @classmethod
    def of(cls, sequence: SequencePayload) -> Self:
        """Read a text of a result."""
        return cls(
            sequence["text"],
            sequence.get("logprob"),
            tuple(map(ScoredToken.of, sequence.get("tokens", ()))),
            sequence.get("finish_reason"),
            sequence.get("probability"),
        )

    def to_json(self) -> SequencePayload:
        """Return the text as in a result."""
        fields: dict[str, Any] = {"text": self.text}
        if self.logprob is not None:
            fields["logprob"] = self.logprob
        if self.tokens:
            fields["tokens"] = [
                {"id": token.id, "text": token.text, "logprob": token.logprob}
                for token in self.tokens
            ]
        if self.probability is not None:
            fields["probability"] = self.probability
        if self.finish_reason is not None:
            fields["finish_reason"] = self.finish_reason
        return cast(SequencePayload, fields)


@dataclass(frozen=True, slots=True)
class TextSequences:
    """The texts of an item, the best beam or the first sample first."""

    texts: tuple[TextSequence, ...]
    #: Tokens that the model reads, image included; None without `output_scores`.
    prompt_tokens: int | None = None

    @classmethod
    def of(cls, result: ItemResult) -> Self | None:
        """Read the texts of a result; None if it has only one text without scores."""
        sequences = result.get("sequences")
        if sequences is None:
            return None
        return cls(tuple(map(TextSequence.of, sequences)), result.get("prompt_tokens"))

    def to_json(self) -> dict[str, Any]:
        """Return the fields of a result."""
        fields: dict[str, Any] = {"sequences": [text.to_json() for text in self.texts]}
        if self.prompt_tokens is not None:
            fields["prompt_tokens"] = self.prompt_tokens
        return fields
