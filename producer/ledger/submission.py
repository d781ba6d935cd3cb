"""Submitting a batch: a stream of items of any length becomes chunks, in bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import redis

from .. import contract
from ..connection.connect import redis_errors
from ..contract import MAX_CUSTOM_ID_CHARS, ErrorCode, Item, ItemError, Queue, Task
from ..errors import IdTaken, InvalidInput, JobUnknown
from . import blobs
from .blobs import ImageSource
from .ids import chunk_id, new_id
from .ledger import Ledger
from .publisher import PIPELINE_MESSAGES, Chunk, OnWait, Publisher, WhenFull, differs, pass_on
from .records import NO_METADATA, JobMetadata

#: Seconds that a chunk may wait for others to be published with it. A full group of URLs is ready
#: in about this time; local images, which are read and uploaded, take longer.
PUBLISH_AFTER_S: Final = 0.02

#: Fields of an item that hold lists or objects; what is wrong inside of them the worker finds out.
_STRUCTURED: Final = ("error", "history", "texts")

_FIELDS: Final = tuple(Item.model_fields)

#: An item of a batch: an image alone, or a mapping with what the contract says of its task.
ItemSource = ImageSource | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What holds for all of a batch."""

    batch_id: str
    task: Task
    options: dict[str, Any]
    chunk_items: int
    #: Seconds that results are kept.
    keep_s: int
    when_full: WhenFull
    #: Whose turn it takes; '': its own.
    submitter: str = ""
    note: JobMetadata = NO_METADATA


class Submission:
    """One pass over the items of one batch; a second pass goes on where the first broke off."""

    def __init__(
        self,
        terms: BatchOptions,
        client: redis.Redis,
        ledger: Ledger,
        publisher: Publisher,
        url: str,
    ) -> None:
        self._terms = terms
        self._redis = client
        self._ledger = ledger
        self._publisher = publisher
        self._url = url
        self._on_wait: OnWait = pass_on
        #: Tells this pass from others over the same batch.
        self._id = new_id()
        #: Items that are in.
        self._total = 0
        #: Bitmap of the chunks that had ended when this began.
        self._done = b""

    def run(self, items: Iterable[ItemSource], on_submitted: Callable[[int], None]) -> None:
        """Publish everything; `on_submitted` hears the number of items that are in so far.

        It hears so also while this waits for room, and may raise to end it.
        """
        self._on_wait, reported = lambda items: on_submitted(self._total + items), 0
        record = self._begin()
        try:
            if record.get("pass") != self._id:
                with redis_errors(self._url):
                    self._ledger.resume_batch(self._terms.batch_id, self._id)
            # What the caller's iterable and callback raise is the caller's, and comes as it is.
            for group in _grouped(self._chunks(items, record)):
                self._publisher.publish_many(
                    group, self._terms.when_full, self._on_wait, self._terms.submitter
                )
                self._total += sum(len(chunk.items) for chunk in group)
                reported = self._total
                on_submitted(reported)
            with redis_errors(self._url):
                self._close()
        except BaseException:
            # Cut short, the batch is what is in: who waits for it must not wait for ever.
            with suppress(redis.RedisError):
                self._ledger.interrupt_batch(self._terms.batch_id, self._id)
            raise
        if reported != self._total:
            on_submitted(self._total)

    def _begin(self) -> dict[str, str]:
        record: dict[str, str] = {}
        self._publisher.with_room(
            lambda: record.update(self._open()), self._terms.when_full, lambda: self._on_wait(0)
        )
        return record

    def _open(self) -> dict[str, str]:
        terms = self._terms
        wanted = {
            "task": terms.task.value,
            "chunk_items": str(terms.chunk_items),
            "options": json.dumps(terms.options, sort_keys=True),
        }
        record = self._ledger.open_batch(terms.batch_id, wanted, terms.keep_s, terms.note, self._id)
        for name, value in wanted.items():
            if _timeless(record[name]) != _timeless(value):
                raise IdTaken(
                    f"batch_id={terms.batch_id!r}: there is a batch of this id, with {name} "
                    f"{record[name]} and not {value}: go on with the same, or choose another id"
                )
        if int(record["total"]):
            done: Any = self._redis.get(self._ledger.keys.done(terms.batch_id))
            self._done = done or b""
        return record

    def _close(self) -> None:
        known = self._ledger.seal_batch(self._terms.batch_id)
        if known is None:
            raise JobUnknown(f"batch {self._terms.batch_id} was deleted while it was submitted")
        if known > self._total:
            raise IdTaken(
                f"batch_id={self._terms.batch_id!r}: {known:,} items were submitted before, and "
                f"only {self._total:,} now. They go on; a batch of other items needs another id"
            )

    def _chunks(self, items: Iterable[ItemSource], record: dict[str, str]) -> Iterator[Chunk]:
        terms, stream = self._terms, iter(items)
        # The deadline of a second pass is that of the first.
        options = json.loads(record["options"])
        number = -1
        while sources := list(islice(stream, terms.chunk_items)):
            number += 1
            if self._is_done(number):
                left = int(record["total"]) - number * terms.chunk_items
                if len(sources) != min(terms.chunk_items, left):
                    raise differs(terms.batch_id, number)
                # Its images need not be uploaded again.
                self._total += len(sources)
                continue
            ready = [prepare(source) for source in sources]
            self._upload(ready)
            yield Chunk(chunk_id(terms.batch_id, number), terms.task, ready, options)

    def _is_done(self, number: int) -> bool:
        """Whether a chunk had ended when this began: bits count from the highest in a byte."""
        place, bit = divmod(number, 8)
        return place < len(self._done) and bool(self._done[place] >> (7 - bit) & 1)

    def _upload(self, items: list[dict[str, Any]]) -> None:
        """Replace the bytes of local images by references."""
        local = [item for item in items if isinstance(item.get("image"), bytes)]
        if local:
            images = [item["image"] for item in local]
            references = self._publisher.upload(
                images, Queue.BULK, self._terms.when_full, self._on_wait
            )
            for item, reference in zip(local, references, strict=True):
                item["image"] = reference


def _timeless(value: str) -> str:
    """A term of a batch, without what differs each time that it is submitted."""
    if not value.startswith("{"):
        return value
    options = json.loads(value)
    options.pop("deadline", None)
    return json.dumps(options, sort_keys=True)


def _grouped(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks to publish together: as many as are ready soon, so that workers begin at once."""
    group: list[Chunk] = []
    publish_at = 0.0
    for chunk in chunks:
        if not group:
            publish_at = time.monotonic() + PUBLISH_AFTER_S
        group.append(chunk)
        if len(group) == PIPELINE_MESSAGES or time.monotonic() >= publish_at:
            yield group
            group = []
    if group:
        yield group


def prepare(source: ItemSource) -> dict[str, Any]:
    """An item as the contract has it, its image still bytes where it is local.

    What is wrong with one item becomes that item's error: the others must not suffer.
    """
    item = dict(source) if isinstance(source, Mapping) else {"image": source}
    for name, value in item.items():
        if name not in _FIELDS:
            return _failed(item, f"{name}: no such name; there are {', '.join(_FIELDS)}")
        problem = None if name == "image" else _problem(name, value)
        if problem is not None:
            return _failed(item, f"{name}: {problem}")
    image = item.get("image")
    if item.get("error") is not None or image is None or (isinstance(image, str) and not image):
        # An error that was found before, or no image: the worker names it in the result.
        return item
    try:
        item["image"] = blobs.read(image)
    except InvalidInput as error:
        return _failed(item, str(error), contract.ErrorCode(error.code))
    except Exception as error:
        # Whatever it is, and whatever it does when it is asked for its bytes.
        about = f"{type(error).__name__}: {error}"
        return _failed(item, f"the image cannot be read: {about}", ErrorCode.IMAGE_INVALID)
    return item


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a field; what could not be written in a message must not stop others."""
    if name not in _STRUCTURED:
        if value is not None and not isinstance(value, str):
            return f"a string is needed, not {type(value).__name__}"
        if name == "custom_id" and value is not None and len(value) > MAX_CUSTOM_ID_CHARS:
            return f"has {len(value):,} characters; it may have {MAX_CUSTOM_ID_CHARS}"
        return None
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON: {error}"
    return None


def _failed(
    item: Mapping[str, Any],
    message: str,
    code: contract.ErrorCode = contract.ErrorCode.OPTION_INVALID,
) -> dict[str, Any]:
    error = ItemError(code=code, message=message)
    custom_id = item.get("custom_id")
    known = {} if custom_id is None else {"custom_id": str(custom_id)[:MAX_CUSTOM_ID_CHARS]}
    return {**known, "error": error.model_dump(mode="json")}
