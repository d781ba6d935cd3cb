"""Outputs of jobs in responses, a model for each task."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...contract import Ranking, TextSource


class MatchAnswer(BaseModel):
    """Score of one text of a match."""

    text: str
    probability: float = Field(description="Probability that the text describes the image, 0 to 1.")
    cosine: float = Field(description="Cosine of the embeddings of text and image, -1 to 1.")


class TokenAnswer(BaseModel):
    """Generated token."""

    id: int
    text: str = Field(description="With the space before it if it begins a word.")
    logprob: float = Field(description="Log-probability after all options.")


class SequenceAnswer(BaseModel):
    """One of the generated texts, or of the ranked answers; most fields need `output_scores`."""

    text: str
    logprob: float | None = Field(None, description="Sum over the tokens.")
    tokens: list[TokenAnswer] | None = Field(None, description="The end token included.")
    probability: float | None = Field(None, description="Of a ranked answer, among all of them.")
    finish_reason: Literal["stop", "length"] | None = None


class TextOutput(BaseModel):
    """Output of caption, vqa and chat."""

    model_config = ConfigDict(extra="forbid")
    text: str


class SequencesOutput(TextOutput):
    """Output of caption, vqa and chat with several texts, scores, or ranked answers."""

    sequences: list[SequenceAnswer] = Field(
        description="All texts, the best beam or the first sample first; of `answers`, the best "
        "first."
    )
    prompt_tokens: int | None = Field(
        None, description="With `output_scores`: tokens that the model reads, image included."
    )


class MatchOutput(BaseModel):
    """Output of match: the most probable text, and the scores of all texts in their order."""

    model_config = ConfigDict(extra="forbid")
    text: str
    matches: list[MatchAnswer]


class EmbedOutput(BaseModel):
    """Output of embed."""

    model_config = ConfigDict(extra="forbid")
    embedding: list[float]


class CandidateAnswer(BaseModel):
    """Text that was generated for a description."""

    text: str
    prompt: str = Field(description="In later rounds it follows the description so far.")
    round: int
    score: float = Field(
        description="Mean probability of its sentences, or, without a matching model, the number "
        "of its new words."
    )
    used: bool = Field(description="True if the description contains a sentence of it.")


class DescribeOutput(BaseModel):
    """Output of describe."""

    model_config = ConfigDict(extra="forbid")
    text: str
    characters: int
    words: int
    candidates: list[CandidateAnswer]
    rounds: int = Field(description="Rounds that ran.")
    seconds: float = Field(description="Seconds from the first round to the text.")
    ranked_by: Ranking = Field(
        description="`match`: sentences are ranked by image-text matching; `length`: by length "
        "and novelty."
    )
    unpolished: str | None = Field(None, description="The text before it was polished.")
    warning: str | None = Field(None, description="Reason that the text is not polished.")


class ScoredAnswer(MatchAnswer):
    """Score of one text of capfilt."""

    source: TextSource = Field(description="`web`: a text of the request; `synthetic`: generated.")


class CapfiltOutput(BaseModel):
    """Output of capfilt: the texts of the request, then synthetic captions."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="The most probable accepted text, or empty.")
    accepted: list[ScoredAnswer]
    rejected: list[ScoredAnswer]
