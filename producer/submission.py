"""Submitting a batch: a stream of items of any length becomes chunks, in bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import redis

from . import blobs, contract
from .blobs import ImageSource
from .connection import reaching
from .contract import Item, ItemError, Queue, Task
from .errors import InvalidInput
from .publish import PIPELINE_MESSAGES, Chunk, Publisher
from .settings import ClientSettings

#: Seconds that a chunk may wait for others to be published with it. A full group of URLs is ready
#: in about this time; local images, which are read and uploaded, take longer.
PUBLISH_AFTER_S: Final = 0.02

#: Fields of an item that hold lists or objects; what is wrong inside of them the worker finds out.
_STRUCTURED: Final = ("error", "history", "texts")

#: An item of a batch: an image alone, or a mapping with what the contract says of its task.
ItemSource = ImageSource | Mapping[str, Any]


class Submission:
    """One pass over the items of one batch."""

    def __init__(
        self, batch_id: str, task: Task, options: dict[str, Any], chunk_items: int
    ) -> None:
        self.batch_id = batch_id
        self._task = task
        self._options = options
        self._chunk_items = chunk_items

    def run(
        self,
        items: Iterable[ItemSource],
        client: redis.Redis,
        publisher: Publisher,
        settings: ClientSettings,
        on_submitted: Callable[[int], None],
    ) -> None:
        """Publish everything; `on_submitted` hears the number of items that are in so far."""
        url, total = settings.redis_url, 0
        with reaching(url):
            self._begin(client)
        try:
            # What the caller's iterable raises is the caller's: it is read outside of `reaching`.
            for group in _grouped(self._chunks(items, client, settings)):
                with reaching(url):
                    publisher.publish_many(group, Queue.BULK)
                    total += sum(len(chunk.items) for chunk in group)
                    self._record(client, total=total)
                on_submitted(total)
        except BaseException:
            # Cut short, the batch is what is in: whoever waits for it must not wait for ever.
            with suppress(redis.RedisError):
                self._record(client, total=total, submitted=1)
            raise
        with reaching(url):
            self._record(client, total=total, submitted=1)

    def _begin(self, client: redis.Redis) -> None:
        key = contract.batch_key(self.batch_id)
        if not client.hsetnx(key, "task", self._task.value):
            raise InvalidInput(f"batch_id={self.batch_id!r}: there is a batch of this id already")
        self._record(client, chunk_items=self._chunk_items, total=0, submitted=0)

    def _chunks(
        self, items: Iterable[ItemSource], client: redis.Redis, settings: ClientSettings
    ) -> Iterator[Chunk]:
        stream = iter(items)
        number = 0
        while sources := list(islice(stream, self._chunk_items)):
            ready = [_prepare(source) for source in sources]
            with reaching(settings.redis_url):
                _upload(ready, client, settings.blob_ttl_s)
            task_id = contract.chunk_id(self.batch_id, number)
            yield Chunk(task_id, self._task, ready, self._options)
            number += 1

    def _record(self, client: redis.Redis, **fields: int) -> None:
        key = contract.batch_key(self.batch_id)
        pipe = client.pipeline()
        pipe.hset(key, mapping=dict(fields.items()))
        pipe.expire(key, contract.BATCH_TTL_S)
        pipe.execute()


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


def _upload(items: list[dict[str, Any]], client: redis.Redis, ttl_s: int) -> None:
    """Replace the bytes of local images by references."""
    local = [item for item in items if isinstance(item.get("image"), bytes)]
    if local:
        references = blobs.upload(client, [item["image"] for item in local], ttl_s)
        for item, reference in zip(local, references, strict=True):
            item["image"] = reference


def _prepare(source: ItemSource) -> dict[str, Any]:
    """An item as the contract has it, its image still bytes where it is local.

    What is wrong with one item becomes that item's error: the others must not suffer.
    """
    item = dict(source) if isinstance(source, Mapping) else {"image": source}
    for name, value in item.items():
        if name not in Item.model_fields:
            return _failed(item, f"{name}: no such name; there are {', '.join(Item.model_fields)}")
        problem = None if name == "image" else _problem(name, value)
        if problem is not None:
            return _failed(item, f"{name}: {problem}")
    if item.get("error") is not None or not item.get("image"):
        # An error that was found before, or no image: the worker names it in the result.
        return item
    try:
        item["image"] = blobs.read(item["image"])
    except InvalidInput as error:
        return _failed(item, str(error), contract.ErrorCode(error.code))
    return item


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a field; what could not be written in a message must not stop others."""
    if name not in _STRUCTURED:
        right = value is None or isinstance(value, str)
        return None if right else f"a string is needed, not {type(value).__name__}"
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
    known = {} if custom_id is None else {"custom_id": str(custom_id)}
    return {**known, "error": error.model_dump(mode="json")}
