"""The item pipeline: validation, result cache, image loading, engine and collection of results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from producer import contract
from producer.contract import ErrorCode, ItemResult, Task
from worker.consumer.pending import PendingItem, result_of
from worker.consumer.result_cache import ResultCache
from worker.consumer.validation import ChunkOptions, check_item
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Request
from worker.errors import ItemRejected
from worker.images.loader import ImageLoader, ImageRequest, Pixels

#: The pixels of an item without an image.
NO_PIXELS: Final = Pixels("", None)
#: The error of an item whose chunk is cancelled while its image is being fetched.
CANCELLED: Final = ItemRejected(ErrorCode.CANCELLED, "cancelled while its image was being fetched")


@dataclass(slots=True)
class ChunkState:
    """The engine rows of a running chunk, and its cancellation."""

    row_ids: list[int] = field(default_factory=list)
    cancelled: bool = False


class ItemHandler(Protocol):
    """A handler that computes the results of a chunk's items; thread-safe."""

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order; update `state` during processing."""

    def cancel(self, row_ids: list[int]) -> None:
        """Cancel these rows of the engine."""


class ItemPipeline:
    """The item handler that uses an engine; one for each consumer process."""

    def __init__(self, images: ImageLoader, engine: EngineClient, cache: ResultCache) -> None:
        self._images = images
        self._engine = engine
        self._cache = cache

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order."""
        checked = [self._check(task, item) for item in items]
        pending = [item for item in checked if isinstance(item, PendingItem)]
        self._lookup(pending, options)
        self._submit_all(state, [item for item in pending if item.result is None], options)
        results = [
            item.result if isinstance(item, ItemRejected) else self._collect(state, item, options)
            for item in checked
        ]
        self._cache.put([item.cacheable for item in pending if item.cacheable is not None])
        return results

    def cancel(self, row_ids: list[int]) -> None:
        """Cancel these rows; they end with the code `cancelled`."""
        self._engine.cancel(row_ids)

    def _check(self, task: Task, source: Any) -> PendingItem | ItemRejected:
        try:
            item = check_item(task, source)
            image = ImageRequest(item.item.image, self._images.model(item.task))
            return PendingItem(item, image, self._images.known_hash(image))
        except ItemRejected as error:
            return error

    def _lookup(self, pending: list[PendingItem], options: ChunkOptions) -> None:
        """Set the cached result of each item whose image hash is known."""
        hashed = [item for item in pending if item.hash is not None]
        for item in hashed:
            revision = item.image.model.revision
            item.key = self._cache.key(item.item, item.hash or "", options, revision)
        results = self._cache.lookup([item.key for item in hashed])
        for item, result in zip(hashed, results, strict=True):
            if result is not None:
                item.result, item.cached = result, True

    def _submit_all(
        self, state: ChunkState, pending: list[PendingItem], options: ChunkOptions
    ) -> None:
        """Submit each item to the engine as soon as its image is loaded."""
        by_image: dict[ImageRequest, list[PendingItem]] = {}
        for item in pending:
            if item.image.reference:
                by_image.setdefault(item.image, []).append(item)
            else:
                self._submit(state, item, NO_PIXELS, options)
        for request, pixels in self._images.get(by_image, options.deadline):
            sharers = by_image[request]
            if state.cancelled:
                # Do not wait for the images that are still being fetched.
                for item in pending:
                    if item.answer is None and item.result is None:
                        item.result = CANCELLED.result
                return
            if isinstance(pixels, ItemRejected):
                for item in sharers:
                    item.result = pixels.result
                continue
            for item in sharers:
                item.hash = pixels.hash
            if not contract.is_blob(request.reference):
                # The hash of a remote image is known only after its fetch.
                self._lookup(sharers, options)
            for item in sharers:
                if item.result is None:
                    self._submit(state, item, pixels, options)

    def _submit(
        self, state: ChunkState, pending: PendingItem, pixels: Pixels, options: ChunkOptions
    ) -> None:
        item = pending.item

        def build(row_id: int) -> Request:
            state.row_ids.append(row_id)
            return Request(
                id=row_id,
                task=item.task.short,
                image_hash=pixels.hash,
                pixels=pixels.pixels,
                text=item.text,
                options=options.decoding,
                interactive=options.interactive,
                deadline=options.deadline,
                history=item.history,
                texts=item.texts,
            )

        pending.answer = self._engine.submit(build)

    def _collect(
        self, state: ChunkState, pending: PendingItem, options: ChunkOptions
    ) -> ItemResult:
        """Wait for the engine's answer and return the item's result."""
        if pending.result is None:
            assert pending.answer is not None
            answer = pending.answer.result()
            if answer.error_code == IMAGE_NEEDED:
                # The engine evicted the image's features after the cache check.
                pixels = self._images.reload(pending.image, options.deadline)
                if isinstance(pixels, ItemRejected):
                    pending.result = pixels.result
                    return pending.result
                self._submit(state, pending, pixels, options)
                answer = pending.answer.result()
            pending.result = result_of(pending.item, answer)
        return pending.result


class NullPipeline:
    """The item handler for `BLIPLINE_MODEL=null`, which measures only the queue.

    It answers each item immediately with its `custom_id`, without image or model.
    """

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order."""
        return [
            {"text": item.get("custom_id") or "" if isinstance(item, dict) else ""}
            for item in items
        ]

    def cancel(self, row_ids: list[int]) -> None:
        """Do nothing: there are no rows."""
