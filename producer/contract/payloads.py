"""Payloads of messages, job records and results: the JSON of the contract, as types."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from ..enums import ErrorCode


class ErrorPayload(TypedDict):
    """An `ItemError` as JSON."""

    code: str
    message: str


class TokenPayload(TypedDict):
    """A generated token."""

    id: int
    #: With the space before it if it begins a word.
    text: str
    #: Logarithm of its probability after all options.
    logprob: float


class SequencePayload(TypedDict, total=False):
    """One of the generated texts; only `text` without `output_scores`."""

    text: str
    #: Sum over its tokens.
    logprob: float
    #: New tokens, the end token included.
    tokens: list[TokenPayload]
    #: Ranked answers: the probability among all answers of the list.
    probability: float
    #: `length`: the text was cut at its maximum length.
    finish_reason: Literal["stop", "length"]


class MatchPayload(TypedDict):
    """The score of one text of a match."""

    text: str
    probability: float
    cosine: float


#: The ranking of a description's sentences: by image-text matching, or, without a matching model,
#: by length and novelty.
Ranking = Literal["match", "length"]


#: The source of a text of CapFilt: the item, or the captioner.
TextSource = Literal["web", "synthetic"]


class ScoredTextPayload(TypedDict):
    """The score of one text of CapFilt."""

    text: str
    source: TextSource
    probability: float
    cosine: float


class CandidatePayload(TypedDict):
    """A text that a model generated for a description."""

    text: str
    prompt: str
    round: int
    score: float
    used: bool


class TurnPayload(TypedDict):
    """A `Turn` as JSON."""

    question: str
    answer: str


class ItemResult(TypedDict, total=False):
    """The result of one item: the fields of its task, or `error`."""

    custom_id: str
    text: str
    matches: list[MatchPayload]
    #: Caption, vqa and chat, with `output_scores` or `num_return_sequences`: all texts, the best
    #: beam or the first sample first, which is `text`.
    sequences: list[SequencePayload]
    #: With `output_scores`: tokens that the model reads, image included.
    prompt_tokens: int
    embedding: list[float]
    #: Embed: revision of the model; workers of earlier versions do not send it.
    revision: str
    characters: int
    words: int
    candidates: list[CandidatePayload]
    rounds: int
    seconds: float
    ranked_by: Ranking
    unpolished: str
    warning: str
    accepted: list[ScoredTextPayload]
    rejected: list[ScoredTextPayload]
    error: ErrorPayload


class ItemPayload(TypedDict, total=False):
    """An `Item` as JSON, in a message or a job record."""

    image: str
    task: str | None
    prompt: str | None
    question: str | None
    answers: list[str] | None
    history: list[TurnPayload] | None
    texts: list[str] | None
    text: str | None
    prompts: list[str] | None
    detail: str | None
    captions: int | None
    threshold: float | None
    synthetic_threshold: float | None
    options: dict[str, Any] | None
    adapter: str | None
    custom_id: str | None
    error: ErrorPayload | None
    #: The earlier result of an item that a retry does not repeat.
    result: ItemResult


class ChunkPayload(TypedDict):
    """The payload of a job record."""

    #: Short name of the task.
    task: str
    items: list[ItemPayload]
    options: dict[str, Any]


def failure(code: ErrorCode | str, message: str) -> ItemResult:
    """Return the result of an item that failed."""
    return {"error": {"code": str(code), "message": message}}
