"""Items of a message: an image, the request about it, and the references that it may have."""

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

from ..enums import Detail, ErrorCode, Task
from .limits import (
    MAX_ADAPTER_CHARS,
    MAX_CAPTIONS,
    MAX_CUSTOM_ID_CHARS,
    MAX_PROMPTS,
    MAX_REFERENCE_CHARS,
    MAX_TEXTS,
    MAX_TURNS,
)
from .options import ItemOptions

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
