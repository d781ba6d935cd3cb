"""The contract between producers and workers: every name that both sides must agree on.

A job is a plain Celery message, so a program that knows only this page can submit one::

    app.send_task(
        "blipline.vqa",
        kwargs={"items": [{"image": "https://…/cat.jpg", "question": "how many cats?"}]},
        queue="interactive",
    )

The message carries a *chunk* of items; its result is a list with one entry for each item, in
order: what the task gives or ``{"error": {"code": …, "message": …}}``, and ``custom_id`` where the
item had one. One bad item never harms its neighbours. A message without items is a job of the
ledger, which says what is asked.

===========  ===============================  ==================================================
task         an item has                      its result has
===========  ===============================  ==================================================
``caption``  image, prompt (may be missing)   ``text``, which begins with the prompt
``vqa``      image, question                  ``text``
``chat``     image, question, history         ``text``
``match``    image, texts                     ``matches``: probability and cosine of each text;
                                              ``text``: the likeliest
``embed``    image or text                    ``embedding``: a unit vector
===========  ===============================  ==================================================
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final, TypedDict

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)


class Task(StrEnum):
    """Celery task names."""

    CAPTION = "blipline.caption"
    VQA = "blipline.vqa"
    CHAT = "blipline.chat"
    MATCH = "blipline.match"
    EMBED = "blipline.embed"

    @property
    def short(self) -> str:
        """The name a person types: ``caption``."""
        return self.value.removeprefix("blipline.")

    @classmethod
    def parse(cls, name: str) -> Task:
        """Find a task by its short or full name; raises ValueError naming those that exist."""
        for task in cls:
            if name in (task.short, task.value):
                return task
        known = ", ".join(task.short for task in cls)
        raise ValueError(f"unknown task {name!r}: choose one of {known}")


class Queue(StrEnum):
    """Celery queues; each has its own consumers, and the engine serves interactive rows first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class State(StrEnum):
    """What a producer can be told of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: It finished, and its result is no longer kept.
    EXPIRED = "expired"
    #: Nobody ever submitted it here.
    UNKNOWN = "unknown"


class ErrorCode(StrEnum):
    """Why an item has no text."""

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


#: Items in one message of a batch. Larger chunks cost less for each item to publish and to store;
#: smaller ones spread better over workers and lose less work to a crash.
CHUNK_ITEMS: Final = 32
#: Items that one message may carry at most: a worker holds a whole chunk in memory.
MAX_CHUNK_ITEMS: Final = 1024
#: Characters of a reference to an image at most.
MAX_REFERENCE_CHARS: Final = 8192
#: Characters of a `custom_id` at most: it lies in Redis with the item, and again with its result.
MAX_CUSTOM_ID_CHARS: Final = 512
#: Characters of a prompt or question at most. No model here holds as many tokens as that is words,
#: and a tokenizer that is given a book would hold up everyone else's rows.
MAX_TEXT_CHARS: Final = 20_000
#: Texts that one image is compared with at most: all of them are one row of the engine's work.
MAX_TEXTS: Final = 256
#: Characters that they have together at most.
MAX_TEXTS_CHARS: Final = 200_000
#: Turns of a dialogue at most; models read some ten of them.
MAX_TURNS: Final = 256
#: Seconds a result is kept after it was stored.
RESULT_TTL_S: Final = 24 * 3600
#: Seconds that a batch's results may be kept at most.
MAX_KEEP_S: Final = 366 * 24 * 3600
#: Seconds that a deadline may lie ahead at most; more counts as so many, where nobody refuses it.
MAX_DEADLINE_S: Final = 366 * 24 * 3600.0
#: Seconds a batch's own record outlives its results, so that `expired` can be told from `unknown`.
TOMBSTONE_S: Final = 6 * 24 * 3600
#: Seconds an uploaded image waits for the job that names it.
UPLOAD_TTL_S: Final = 3600
#: Seconds an uploaded image is kept after the last job that names it has ended. At 500 images of
#: 50 KB a second, a minute is 1.5 GB.
BLOB_TTL_S: Final = 60
#: Seconds without a sign of life after which a consumer's job is given to another.
LEASE_S: Final = 30.0
#: How often a job is begun as a whole; then its items are tried one by one, to find out which of
#: them kills whoever begins it.
WHOLE_ATTEMPTS: Final = 3
#: How often a consumer dies at one item, which it has alone, before the item is given up.
MAX_DEATHS: Final = 2
#: How often a job is begun at most.
MAX_ATTEMPTS: Final = 12
#: Bytes of one uploaded image at most.
MAX_BLOB_BYTES: Final = 64 * 1024 * 1024

#: Where Celery's Redis backend stores a task's result.
RESULT_KEY_PREFIX: Final = "celery-task-meta-"

BLOB_SCHEME: Final = "blob:"
_BLOB_REFERENCE = re.compile(r"blob:[0-9a-f]{64}")


def is_blob(reference: str) -> bool:
    """Whether this is a well-formed ``blob:<sha256>`` reference."""
    return _BLOB_REFERENCE.fullmatch(reference) is not None


def blob_hash(reference: str) -> str:
    """The SHA-256 in a blob reference."""
    return reference.removeprefix(BLOB_SCHEME)


def _parse_task(name: Any) -> Any:
    return Task.parse(name) if isinstance(name, str) else name


class ItemError(BaseModel):
    """Why one item failed."""

    code: ErrorCode
    message: str


#: What was given up on although nothing is wrong with what was asked: the dead letters.
DEAD_CODES: Final = frozenset({ErrorCode.POISONED, ErrorCode.INTERNAL})


class Turn(BaseModel):
    """A question that was asked before, and what was answered."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str


class Item(BaseModel):
    """One image and what is asked about it.

    ``image`` is a reference, never bytes: ``https://…``, ``blob:<sha256>`` (uploaded to Redis) or
    ``file:<path under the worker's image root>``.
    """

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, StringConstraints(max_length=MAX_REFERENCE_CHARS)] = ""
    #: What is asked of this item, where that is not what the message asks: so a caption and
    #: several questions about one image can stand side by side, and share its image features.
    task: Annotated[Task, BeforeValidator(_parse_task)] | None = None
    #: Caption: how the caption begins.
    prompt: str | None = None
    #: VQA, chat: what is asked.
    question: str | None = None
    #: Chat: what was said before, oldest first. What is too long for the model is cut from there.
    history: Annotated[list[Turn], Field(max_length=MAX_TURNS)] | None = None
    #: Match: what the image is compared with.
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    #: Embed: a text, in place of an image.
    text: str | None = None
    #: Comes back with the result.
    custom_id: Annotated[str, StringConstraints(max_length=MAX_CUSTOM_ID_CHARS)] | None = None
    #: Set by a producer that found the item unusable while submitting: the item keeps its place
    #: in the batch, and the worker hands the error back.
    error: ItemError | None = None


def _not_tiny(temperature: float) -> float:
    # Logits divided by less overflow in half precision.
    if 0 < temperature < 0.01:
        raise ValueError("must be 0 (greedy) or at least 0.01")
    return temperature


class Options(BaseModel):
    """How to generate; the same for all items of a chunk. Greedy unless ``temperature`` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(20, ge=1, le=1024, description="Longest text, in tokens.")
    min_new_tokens: int = Field(0, ge=0, le=1024, description="Shortest text, in tokens.")
    temperature: Annotated[float, AfterValidator(_not_tiny)] = Field(
        0.0,
        ge=0.0,
        le=10.0,
        allow_inf_nan=False,
        description="0 takes the likeliest token each time; from 0.01 on it samples.",
        json_schema_extra={"anyOf": [{"const": 0}, {"minimum": 0.01}]},
    )
    top_k: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Sample among the k likeliest tokens only; 0 switches it off.",
    )
    top_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Sample among the likeliest tokens that together hold this probability.",
    )
    repetition_penalty: float = Field(
        1.0, ge=0.01, le=10.0, description="Above 1 makes repeated tokens less likely."
    )
    no_repeat_ngram_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="No sequence of this many tokens occurs twice; 0 switches it off.",
    )
    num_beams: int = Field(
        1, ge=1, le=16, description="Beams that are searched; 1 switches it off."
    )
    length_penalty: float = Field(
        1.0,
        ge=-10.0,
        le=10.0,
        allow_inf_nan=False,
        description="Of beam search: above 0 favours longer texts, below 0 shorter ones.",
    )
    early_stopping: bool = Field(
        False, description="Of beam search: end when there are as many candidates as beams."
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Makes sampling repeatable, alone or in company."
    )
    deadline: float | None = Field(
        None,
        gt=0.0,
        allow_inf_nan=False,
        description="Unix time after which nobody wants the answer.",
    )


class ErrorPayload(TypedDict):
    """An `ItemError` as JSON."""

    code: str
    message: str


class MatchPayload(TypedDict):
    """The score of one text of a match."""

    text: str
    probability: float
    cosine: float


class TurnPayload(TypedDict):
    """A `Turn` as JSON."""

    question: str
    answer: str


class ItemResult(TypedDict, total=False):
    """The result of one item: the fields of its task, or `error`."""

    custom_id: str
    text: str
    matches: list[MatchPayload]
    embedding: list[float]
    error: ErrorPayload


class ItemPayload(TypedDict, total=False):
    """An `Item` as JSON, in a message or a job record."""

    image: str
    task: str | None
    prompt: str | None
    question: str | None
    history: list[TurnPayload] | None
    texts: list[str] | None
    text: str | None
    custom_id: str | None
    error: ErrorPayload | None
    #: The earlier result of an item that a retry leaves as it is.
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
