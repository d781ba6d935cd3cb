"""From items to results: get their images, ask the engine, collect the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from producer import contract
from producer.contract import ErrorCode, Task
from worker.consumer.pending import PendingItem, result_of
from worker.consumer.result_cache import ResultCache
from worker.consumer.validation import ChunkOptions, check_item
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Request
from worker.errors import ItemRejected, Result
from worker.images.loader import ImageLoader, ImageRequest, Pixels

#: What stands for the image of an item that has none.
NO_PICTURE: Final = Pixels("", None)
#: What becomes of an item whose chunk was cancelled while its image was on the way.
CANCELLED: Final = ItemRejected(ErrorCode.CANCELLED, "cancelled while its image was being fetched")


@dataclass(slots=True)
class ChunkState:
    """A chunk that is being answered."""

    row_ids: list[int] = field(default_factory=list)
    #: Nobody wants it any more.
    cancelled: bool = False


class ItemHandler(Protocol):
    """Who answers the items of a chunk; thread-safe."""

    def answer(
        self, task: Task, items: list[Any], terms: ChunkOptions, underway: ChunkState
    ) -> list[Result]:
        """One result for each item, in their order; `underway` says how far that is."""

    def cancel(self, row_ids: list[int]) -> None:
        """End these rows soon."""


class ItemPipeline:
    """Answers with an engine; one for each consumer process."""

    def __init__(self, pictures: ImageLoader, engine: EngineClient, answers: ResultCache) -> None:
        self._pictures = pictures
        self._engine = engine
        self._answers = answers

    def answer(
        self, task: Task, items: list[Any], terms: ChunkOptions, underway: ChunkState
    ) -> list[Result]:
        """One result for each item, in their order."""
        asked = [self._check(task, item) for item in items]
        good = [one for one in asked if isinstance(one, PendingItem)]
        self._recall(good, terms)
        self._submit_all(underway, [one for one in good if one.result is None], terms)
        results = [
            one.result if isinstance(one, ItemRejected) else self._collect(underway, one, terms)
            for one in asked
        ]
        self._answers.put([one.cacheable for one in good if one.cacheable is not None])
        return results

    def cancel(self, row_ids: list[int]) -> None:
        """End these rows soon, with the code `cancelled`."""
        self._engine.cancel(row_ids)

    def _check(self, task: Task, item: Any) -> PendingItem | ItemRejected:
        try:
            row = check_item(task, item)
            return PendingItem(row, ImageRequest(row.item.image, self._pictures.model(row.task)))
        except ItemRejected as refusal:
            return refusal

    def _recall(self, asked: list[PendingItem], terms: ChunkOptions) -> None:
        """Answer what was asked before, of images whose hash is known."""
        known = [one for one in asked if one.hash is not None]
        for one in known:
            revision = one.image.model.revision
            one.key = self._answers.key(one.item, one.hash or "", terms, revision)
        for one, result in zip(
            known, self._answers.lookup([one.key for one in known]), strict=True
        ):
            if result is not None:
                one.result, one.cached = result, True

    def _submit_all(
        self, underway: ChunkState, asked: list[PendingItem], terms: ChunkOptions
    ) -> None:
        """Submit each row as soon as its image is there."""
        by_image: dict[ImageRequest, list[PendingItem]] = {}
        for one in asked:
            if one.image.reference:
                by_image.setdefault(one.image, []).append(one)
            else:
                self._submit(underway, one, NO_PICTURE, terms)
        for wanted, picture in self._pictures.get(by_image, terms.deadline):
            sharers = by_image[wanted]
            if underway.cancelled:
                # What is still being fetched is not waited for.
                for one in asked:
                    if one.answer is None and one.result is None:
                        one.result = CANCELLED.result
                return
            if isinstance(picture, ItemRejected):
                for one in sharers:
                    one.result = picture.result
                continue
            for one in sharers:
                one.hash = picture.hash
            if not contract.is_blob(wanted.reference):
                # Only now is it known which image this is.
                self._recall(sharers, terms)
            for one in sharers:
                if one.result is None:
                    self._submit(underway, one, picture, terms)

    def _submit(
        self, underway: ChunkState, one: PendingItem, picture: Pixels, terms: ChunkOptions
    ) -> None:
        row = one.item

        def build(row_id: int) -> Request:
            underway.row_ids.append(row_id)
            return Request(
                id=row_id,
                task=row.task.short,
                image_hash=picture.hash,
                pixels=picture.pixels,
                text=row.text,
                options=terms.options,
                interactive=terms.interactive,
                deadline=terms.deadline,
                history=row.history,
                texts=row.texts,
            )

        one.answer = self._engine.submit(build)

    def _collect(self, underway: ChunkState, one: PendingItem, terms: ChunkOptions) -> Result:
        """Wait for the engine's answer."""
        if one.result is None:
            assert one.answer is not None
            answer = one.answer.result()
            if answer.error_code == IMAGE_NEEDED:
                # Its features were evicted between the question and the row.
                picture = self._pictures.reload(one.image, terms.deadline)
                if isinstance(picture, ItemRejected):
                    one.result = picture.result
                    return one.result
                self._submit(underway, one, picture, terms)
                answer = one.answer.result()
            one.result = result_of(one.item, answer)
        return one.result


class NullPipeline:
    """Answers every item at once with its `custom_id`: what the queue itself can carry.

    For `BLIPLINE_MODEL=null`. Nothing is fetched, and no model is asked.
    """

    def answer(
        self, task: Task, items: list[Any], terms: ChunkOptions, underway: ChunkState
    ) -> list[Result]:
        """One result for each item, in their order."""
        return [
            {"text": item.get("custom_id") or "" if isinstance(item, dict) else ""}
            for item in items
        ]

    def cancel(self, row_ids: list[int]) -> None:
        """There are none."""
