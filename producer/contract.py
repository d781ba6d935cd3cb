"""The contract between producers and workers: tasks, queues, states, error codes, items, options.

A job is a plain Celery message, so any Celery program can submit one::

    app.send_task(
        "blipline.vqa",
        kwargs={"items": [{"image": "https://…/cat.jpg", "question": "how many cats?"}]},
        queue="interactive",
    )

The message carries a *chunk* of items. Its result is a list with one entry for each item, in
order: the fields of the task or ``{"error": {"code": …, "message": …}}``, and ``custom_id`` if the
item has one. An invalid item does not affect the other items. A message without items belongs to a
job record in Redis, which contains the payload.

============  ==============================  ==================================================
task          fields of an item               fields of its result
============  ==============================  ==================================================
``caption``   image, prompt (optional)        ``text``, which begins with the prompt;
                                              ``sequences`` if an option asks for them
``vqa``       image, question, answers        as caption; with ``answers``, the best of
              (optional)                      them, and ``sequences`` ranks all
``chat``      image, question, history        as caption
``match``     image, texts                    ``matches``: probability and cosine of each text;
                                              ``text``: the most probable
``embed``     image or text                   ``embedding``: a unit vector; ``revision``: a hash
                                              of the model and its settings
``describe``  image, prompts and detail       ``text``, ``characters``, ``words``,
              (both optional)                 ``candidates``, ``rounds``, ``seconds``,
                                              ``ranked_by``
``capfilt``   image, texts, captions,         ``accepted``, ``rejected``: source, scores
              thresholds (optional)           of each; ``text``: the best accepted
============  ==============================  ==================================================

An item of a task that generates text may also name an ``adapter`` of the worker's model.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from .options import ItemOptions as ItemOptions
from .options import Options as Options


class Task(StrEnum):
    """Celery task names."""

    CAPTION = "blipline.caption"
    VQA = "blipline.vqa"
    CHAT = "blipline.chat"
    MATCH = "blipline.match"
    EMBED = "blipline.embed"
    DESCRIBE = "blipline.describe"
    CAPFILT = "blipline.capfilt"

    @property
    def short(self) -> str:
        """The name without its prefix: ``caption``."""
        return self.value.removeprefix("blipline.")

    @classmethod
    def parse(cls, name: str) -> Task:
        """Return the task of a short or full name; raises ValueError that lists all tasks."""
        for task in cls:
            if name in (task.short, task.value):
                return task
        known = ", ".join(task.short for task in cls)
        raise ValueError(f"unknown task {name!r:.100}: choose one of {known}")


class Queue(StrEnum):
    """Celery queues; each has its own consumers, and the engine serves interactive rows first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Detail(StrEnum):
    """The level of detail of a description: its number of rounds and its default options."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class State(StrEnum):
    """The state of a job, as producers see it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: The job has ended, and its result has expired.
    EXPIRED = "expired"
    #: The job was never submitted to this deployment.
    UNKNOWN = "unknown"


class ErrorCode(StrEnum):
    """The reason that an item has no result."""

    IMAGE_UNREACHABLE = "image_unreachable"
    IMAGE_BLOCKED = "image_blocked"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_INVALID = "image_invalid"
    PROMPT_TOO_LONG = "prompt_too_long"
    OPTION_INVALID = "option_invalid"
    UNSUPPORTED_TASK = "unsupported_task"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    POISONED = "poisoned"
    INTERNAL = "internal"


#: Items in one message of a batch. Larger chunks cost less per item to publish and store; smaller
#: chunks spread better over workers and lose less work in a crash.
CHUNK_ITEMS: Final = 32
#: Maximum items of one message: a worker holds a whole chunk in memory.
MAX_CHUNK_ITEMS: Final = 1024
#: Maximum characters of an image reference.
MAX_REFERENCE_CHARS: Final = 8192
#: Maximum characters of a `custom_id`: Redis stores it with the item and with its result.
MAX_CUSTOM_ID_CHARS: Final = 512
#: Maximum characters of a prompt or question. No supported model accepts as many tokens, and a very
#: long text would block the tokenizer for all other rows.
MAX_TEXT_CHARS: Final = 20_000
#: Maximum texts of one match, all of them one row of the engine, and answers of one question, each
#: a row.
MAX_TEXTS: Final = 256
#: Maximum characters of all texts of one match, and of all answers.
MAX_TEXTS_CHARS: Final = 200_000
#: Maximum prompts of one description: each is a row of the engine.
MAX_PROMPTS: Final = 16
#: Maximum synthetic captions of one item of CapFilt: each is a row of the engine.
MAX_CAPTIONS: Final = 16
#: Synthetic captions of an item of CapFilt, as in the paper, and the probability from which its
#: texts are accepted.
CAPTIONS: Final = 1
THRESHOLD: Final = 0.5
#: Maximum turns of a dialogue; models read about ten.
MAX_TURNS: Final = 256
#: Maximum characters of the name of an adapter.
MAX_ADAPTER_CHARS: Final = 64
#: Seconds from storing a result to its expiry.
RESULT_TTL_S: Final = 24 * 3600
#: Maximum seconds that a batch's results can be kept.
MAX_KEEP_S: Final = 366 * 24 * 3600
#: Maximum seconds from now to a deadline; consumers shorten a later one.
MAX_DEADLINE_S: Final = 366 * 24 * 3600.0
#: Seconds that a batch's record outlives its results, to distinguish `expired` from `unknown`.
TOMBSTONE_S: Final = 6 * 24 * 3600
#: Seconds that an uploaded image is kept before a job names it.
UPLOAD_TTL_S: Final = 3600
#: Seconds that an uploaded image is kept after the end of the last job that names it. At 500 images
#: of 50 KB per second, the images of one minute occupy 1.5 GB.
BLOB_TTL_S: Final = 60
#: Seconds of a lease: a job without a heartbeat for this time is redelivered.
LEASE_S: Final = 30.0
#: Seconds after its last sign of life for which a worker counts as alive.
WORKER_ALIVE_S: Final = 30
#: Attempts that run all items of a job together; later attempts run them one by one, to isolate the
#: item that kills its consumer.
WHOLE_ATTEMPTS: Final = 3
#: Consumers that may die at one isolated item before it fails as poisoned.
MAX_DEATHS: Final = 2
#: Maximum attempts at a job.
MAX_ATTEMPTS: Final = 12
#: Maximum bytes of one uploaded image.
MAX_BLOB_BYTES: Final = 64 * 1024 * 1024

#: Prefix of the keys in which Celery's Redis backend stores results.
RESULT_KEY_PREFIX: Final = "celery-task-meta-"

BLOB_SCHEME: Final = "blob:"
_BLOB_REFERENCE = re.compile(r"blob:[0-9a-f]{64}")


_ADAPTER_NAME = re.compile(rf"[A-Za-z0-9][\w.-]{{0,{MAX_ADAPTER_CHARS - 1}}}", re.ASCII)


def is_adapter_name(name: str) -> bool:
    """Return whether a worker can give this name to an adapter."""
    return _ADAPTER_NAME.fullmatch(name) is not None


def is_blob(reference: str) -> bool:
    """Return whether this is a well-formed ``blob:<sha256>`` reference."""
    return _BLOB_REFERENCE.fullmatch(reference) is not None


def blob_hash(reference: str) -> str:
    """Return the SHA-256 of a blob reference."""
    return reference.removeprefix(BLOB_SCHEME)


def _parse_task(name: Any) -> Any:
    return Task.parse(name) if isinstance(name, str) else name


class ItemError(BaseModel):
    """The error of one failed item."""

    code: ErrorCode
    message: str


#: Errors of the bytes and the words themselves: the same request has them again.
LASTING_CODES: Final = frozenset(
    {ErrorCode.IMAGE_INVALID, ErrorCode.PROMPT_TOO_LONG, ErrorCode.OPTION_INVALID}
)
#: Errors that no change of the request would prevent: such jobs become dead letters.
DEAD_CODES: Final = frozenset({ErrorCode.POISONED, ErrorCode.INTERNAL})


#: A text without surrounding whitespace, which some tokenizers would turn into tokens.
_Text = Annotated[str, StringConstraints(strip_whitespace=True)]


def whole_number(value: Any) -> Any:
    """Return a whole number as an int; JSON does not distinguish 4 and 4.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Probability = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]


class Turn(BaseModel):
    """An earlier question of a dialogue and its answer."""

    model_config = ConfigDict(extra="forbid")

    question: _Text
    answer: _Text


class Item(BaseModel):
    """One image and the request about it.

    ``image`` is a reference, never bytes: ``https://…``, ``blob:<sha256>`` (uploaded to Redis) or
    ``file:<path under the worker's image root>``.
    """

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, StringConstraints(max_length=MAX_REFERENCE_CHARS)] = ""
    #: The task of this item, if it differs from that of the message: a caption and several
    #: questions about one image can share a chunk, and with it the image features.
    task: Annotated[Task, BeforeValidator(_parse_task)] | None = None
    #: Caption: the beginning of the caption.
    prompt: _Text | None = None
    #: VQA, chat: the question.
    question: _Text | None = None
    #: VQA: a closed list of answers, which are ranked.
    answers: Annotated[list[_Text], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    #: Chat: earlier turns, oldest first. A model that is short of tokens drops the oldest ones.
    history: Annotated[list[Turn], Field(max_length=MAX_TURNS)] | None = None
    #: Match, CapFilt: the texts to compare with the image. The result repeats them, so their
    #: whitespace stays; the matchers' tokenizers ignore it.
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    #: Embed: a text, instead of an image.
    text: _Text | None = None
    #: Describe: the prompts of the first round; "" is a caption without a prompt.
    prompts: Annotated[list[_Text], Field(min_length=1, max_length=MAX_PROMPTS)] | None = None
    #: Describe: the level of detail.
    detail: Detail | None = None
    #: CapFilt: the number of synthetic captions.
    captions: (
        Annotated[int, Field(strict=True, ge=0, le=MAX_CAPTIONS), BeforeValidator(whole_number)]
        | None
    ) = None
    #: CapFilt: texts are accepted from this probability on.
    threshold: _Probability | None = None
    #: CapFilt: the threshold of synthetic captions, if it differs.
    synthetic_threshold: _Probability | None = None
    #: Generation options that replace those of the message. Workers of earlier versions reject it.
    options: ItemOptions | None = None
    #: Caption, VQA, chat, describe, CapFilt: the adapter of the worker's model that answers.
    adapter: (
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_ADAPTER_CHARS)] | None
    ) = None
    #: Returned with the result.
    custom_id: Annotated[str, StringConstraints(max_length=MAX_CUSTOM_ID_CHARS)] | None = None
    #: Set by a producer that cannot read the item: the item keeps its index in the batch, and the
    #: worker returns the error.
    error: ItemError | None = None


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
