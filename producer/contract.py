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
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from .enums import Detail as Detail
from .enums import ErrorCode as ErrorCode
from .enums import Queue as Queue
from .enums import State as State
from .enums import Task as Task
from .options import ItemOptions as ItemOptions
from .options import Options as Options
from .payloads import CandidatePayload as CandidatePayload
from .payloads import ChunkPayload as ChunkPayload
from .payloads import ErrorPayload as ErrorPayload
from .payloads import ItemPayload as ItemPayload
from .payloads import ItemResult as ItemResult
from .payloads import MatchPayload as MatchPayload
from .payloads import Ranking as Ranking
from .payloads import ScoredTextPayload as ScoredTextPayload
from .payloads import SequencePayload as SequencePayload
from .payloads import TextSource as TextSource
from .payloads import TokenPayload as TokenPayload
from .payloads import TurnPayload as TurnPayload
from .payloads import failure as failure

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
