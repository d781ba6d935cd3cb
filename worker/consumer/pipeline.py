"""The item pipeline: validation, result cache, image loading, and the recipes of items."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Final

from producer import contract
from producer.contract import ErrorCode, ItemResult, Task
from worker.consumer.chunk_options import ChunkOptions
from worker.consumer.item_handler import ChunkState
from worker.consumer.metrics import ConsumerMetrics
from worker.consumer.pending import (
    PendingItem,
    RunningCall,
    adapter_of,
    has_growing_text,
    image_requests,
    models_of,
    recipe_of,
)
from worker.consumer.polish import Polisher
from worker.consumer.result_cache import ResultCache
from worker.consumer.text_publisher import TextPublisher
from worker.consumer.validation import check_item
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Answer, Request
from worker.errors import ItemRejected
from worker.images.loader import ImageLoader, ImageRequest
from worker.recipes.recipe import POLISH, ModelCall

log = logging.getLogger(__name__)

#: The error of an item whose chunk is cancelled while its image is being fetched.
CANCELLED: Final = ItemRejected(ErrorCode.CANCELLED, "cancelled while its image was being fetched")


class ItemPipeline:
    """The item handler that uses an engine; one for each consumer process."""

    def __init__(
        self,
        images: ImageLoader,
        engine: EngineClient,
        cache: ResultCache,
        polisher: Polisher | None = None,
        texts: TextPublisher | None = None,
        metrics: ConsumerMetrics | None = None,
    ) -> None:
        self._metrics = metrics or ConsumerMetrics()
        self._images = images
        self._texts = texts
        self._engine = engine
        self._cache = cache
        self._polisher = polisher

    def answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        """Return one result for each item, in order."""
        if options.streams and len(items) > 1:
            options = replace(options, streams=False)
        try:
            return self._answer(task, items, options, state)
        finally:
            if options.streams and self._texts is not None:
                self._texts.end(state.task_id)

    def _answer(
        self, task: Task, items: list[Any], options: ChunkOptions, state: ChunkState
    ) -> list[ItemResult]:
        checked = [self._check(task, item, options) for item in items]
        pending = [item for item in checked if isinstance(item, PendingItem)]
        self._lookup(state, pending)
        with state.step("fetch"):
            self._start_all(state, [item for item in pending if item.result is None], options)
        self._finish_all(state, [item for item in pending if item.result is None], options)
        self._cache.put(
            state.task_id, [item.cacheable for item in pending if item.cacheable is not None]
        )
        return [_result(item) for item in checked]

    def cancel(self, row_ids: list[int]) -> None:
        """Cancel these rows; they end with the code `cancelled`."""
        self._engine.cancel(row_ids)

    def _check(self, task: Task, source: Any, options: ChunkOptions) -> PendingItem | ItemRejected:
        try:
            item = check_item(task, source)
            own_options = options.of_item(item)
            models = models_of(item, self._images)
            adapter = adapter_of(item, next(iter(models.values())))
            requests = image_requests(item, models, adapter)
            pending = PendingItem(item, requests, own_options, adapter=adapter)
            pending.hash = self._images.known_hash(pending.image)
            return pending
        except ItemRejected as error:
            return error

    def _lookup(self, state: ChunkState, pending: list[PendingItem]) -> None:
        """Set the cached result of each item whose image hash is known."""
        hashed = [item for item in pending if item.hash is not None]
        for item in hashed:
            revision = item.revision
            if item.item.task is Task.DESCRIBE and self._polisher is not None:
                revision = f"{revision} {self._polisher.identity}"
            item.key = self._cache.key(item.item, item.hash or "", item.options, revision)
        results = self._cache.lookup(state.task_id, [item.key for item in hashed])
        keyed = sum(item.key is not None for item in hashed)
        hits = sum(result is not None for result in results)
        self._metrics.count_lookups(hits, keyed - hits)
        for item, result in zip(hashed, results, strict=True):
            if result is not None:
                item.result, item.cached = result, True

    def _start_all(
        self, state: ChunkState, pending: list[PendingItem], options: ChunkOptions
    ) -> None:
        """Start the recipe of each item as soon as its image is loaded."""
        by_image: dict[ImageRequest, list[PendingItem]] = {}
        for item in pending:
            for image in item.images.values():
                if image.reference:
                    by_image.setdefault(image, []).append(item)
            if item.is_loaded:
                self._start(state, item, options)
        for request, pixels in self._images.get(by_image, options.deadline):
            sharers = [item for item in by_image[request] if item.result is None]
            if state.cancelled:
                # Do not wait for the images that are still being fetched.
                for item in pending:
                    if item.recipe is None and item.result is None:
                        item.result = CANCELLED.result
                return
            if isinstance(pixels, ItemRejected):
                for item in sharers:
                    item.result = pixels.result
                continue
            for item in sharers:
                item.pixels[request] = pixels
                if request == item.image:
                    item.hash = pixels.hash
            loaded = [item for item in sharers if item.is_loaded]
            if not contract.is_blob(request.reference):
                # The hash of a remote image is known only after its fetch.
                self._lookup(state, loaded)
            for item in loaded:
                if item.result is None:
                    self._start(state, item, options)

    def _finish_all(
        self, state: ChunkState, pending: list[PendingItem], options: ChunkOptions
    ) -> None:
        """Advance the recipes until every item has a result.

        Each pass waits for one round of every item, so that the rounds of a chunk's items overlap.
        """
        while pending:
            for item in pending:
                answers = [self._wait(state, item, call, options) for call in item.calls]
                for answer in answers:
                    state.count(answer)
                self._advance(state, item, answers, options)
            pending = [item for item in pending if item.result is None]

    def _start(self, state: ChunkState, pending: PendingItem, options: ChunkOptions) -> None:
        polishes = self._polisher is not None
        pending.recipe = recipe_of(pending, polishes=polishes)
        self._advance(state, pending, None, options)

    def _advance(
        self,
        state: ChunkState,
        pending: PendingItem,
        answers: list[Answer] | None,
        options: ChunkOptions,
    ) -> None:
        """Send a round's answers to the item's recipe, and submit the calls of its next round."""
        assert pending.recipe is not None
        try:
            # A generator starts with None.
            calls = pending.recipe.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            pending.result = end.value
            return
        except Exception as error:  # the other items of the chunk are not affected
            log.exception("the recipe of %s failed", pending.item.task.short)
            pending.result = contract.failure(
                ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
            )
            return
        if state.cancelled and answers is not None:
            pending.result = contract.failure(ErrorCode.CANCELLED, "cancelled while it ran")
            return
        pending.calls = [
            RunningCall(call, self._submit(state, pending, call, options)) for call in calls
        ]

    def _submit(
        self, state: ChunkState, pending: PendingItem, call: ModelCall, options: ChunkOptions
    ) -> Future[Answer]:
        if call.task == POLISH and self._polisher is not None:
            return self._polisher.submit(call.text, call.texts, options.deadline)
        pixels = pending.pixels_for(call.task)
        on_text = None
        streams = options.streams and has_growing_text(pending)
        if streams and self._texts is not None:
            on_text = partial(self._texts.publish, state.task_id)

        def build(row_id: int) -> Request:
            state.row_ids.append(row_id)
            return Request(
                id=row_id,
                task=call.task,
                image_hash=pixels.hash,
                pixels=pixels.pixels,
                text=call.text,
                options=call.options,
                interactive=options.interactive,
                deadline=options.deadline,
                history=call.history,
                texts=call.texts,
                candidate=call.candidate,
                adapter=pending.adapter_for(call.task),
                streams=on_text is not None,
            )

        return self._engine.submit(build, on_text)

    def _wait(
        self, state: ChunkState, pending: PendingItem, running: RunningCall, options: ChunkOptions
    ) -> Answer:
        """Wait for the engine's answer to a call."""
        answer = running.answer.result()
        if state.trace is not None:
            state.trace.record_answer(answer)
        if answer.error_code != IMAGE_NEEDED:
            return answer
        # The engine evicted the image's features after the cache check.
        call, image = running.call, pending.images.get(running.call.task, pending.image)
        if pending.pixels[image].pixels is None:
            pixels = self._images.reload(image, options.deadline)
            if isinstance(pixels, ItemRejected):
                return Answer(answer.id, error_code=pixels.code, error_message=str(pixels))
            pending.pixels[image] = pixels
        return self._submit(state, pending, call, options).result()


def _result(item: PendingItem | ItemRejected) -> ItemResult:
    assert item.result is not None
    return item.result
