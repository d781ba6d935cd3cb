"""From items to results: get their images, ask the engine, collect the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from producer import contract
from producer.contract import ErrorCode, Task
from worker.consumer.pending import Asked, result_of
from worker.consumer.result_cache import AnswerCache
from worker.consumer.validation import Terms, check_item
from worker.engine.client import EngineClient
from worker.engine.request import IMAGE_NEEDED, Request
from worker.errors import Refused, Result
from worker.images.loader import Picture, Pictures, Wanted

#: What stands for the image of an item that has none.
NO_PICTURE: Final = Picture("", None)
#: What becomes of an item whose chunk was cancelled while its image was on the way.
CANCELLED: Final = Refused(ErrorCode.CANCELLED, "cancelled while its image was being fetched")


@dataclass(slots=True)
class Underway:
    """A chunk that is being answered."""

    row_ids: list[int] = field(default_factory=list)
    #: Nobody wants it any more.
    cancelled: bool = False


class Answering(Protocol):
    """Who answers the items of a chunk; thread-safe."""

    def answer(
        self, task: Task, items: list[Any], terms: Terms, underway: Underway
    ) -> list[Result]:
        """One result for each item, in their order; `underway` says how far that is."""

    def cancel(self, row_ids: list[int]) -> None:
        """End these rows soon."""


class Answerer:
    """Answers with an engine; one for each consumer process."""

    def __init__(self, pictures: Pictures, engine: EngineClient, answers: AnswerCache) -> None:
        self._pictures = pictures
        self._engine = engine
        self._answers = answers

    def answer(
        self, task: Task, items: list[Any], terms: Terms, underway: Underway
    ) -> list[Result]:
        """One result for each item, in their order."""
        asked = [self._check(task, item) for item in items]
        good = [one for one in asked if isinstance(one, Asked)]
        self._recall(good, terms)
        self._submit_all(underway, [one for one in good if one.result is None], terms)
        results = [
            one.result if isinstance(one, Refused) else self._collect(underway, one, terms)
            for one in asked
        ]
        self._answers.put([one.news for one in good if one.news is not None])
        return results

    def cancel(self, row_ids: list[int]) -> None:
        """End these rows soon, with the code `cancelled`."""
        self._engine.cancel(row_ids)

    def _check(self, task: Task, item: Any) -> Asked | Refused:
        try:
            row = check_item(task, item)
            return Asked(row, Wanted(row.item.image, self._pictures.model(row.task)))
        except Refused as refusal:
            return refusal

    def _recall(self, asked: list[Asked], terms: Terms) -> None:
        """Answer what was asked before, of images whose hash is known."""
        known = [one for one in asked if one.hash is not None]
        for one in known:
            revision = one.wanted.model.revision
            one.key = self._answers.key(one.row, one.hash or "", terms, revision)
        for one, result in zip(known, self._answers.get([one.key for one in known]), strict=True):
            if result is not None:
                one.result, one.recalled = result, True

    def _submit_all(self, underway: Underway, asked: list[Asked], terms: Terms) -> None:
        """Submit each row as soon as its image is there."""
        by_image: dict[Wanted, list[Asked]] = {}
        for one in asked:
            if one.wanted.reference:
                by_image.setdefault(one.wanted, []).append(one)
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
            if isinstance(picture, Refused):
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

    def _submit(self, underway: Underway, one: Asked, picture: Picture, terms: Terms) -> None:
        row = one.row

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

    def _collect(self, underway: Underway, one: Asked, terms: Terms) -> Result:
        """Wait for the engine's answer."""
        if one.result is None:
            assert one.answer is not None
            answer = one.answer.result()
            if answer.error_code == IMAGE_NEEDED:
                # Its features were evicted between the question and the row.
                picture = self._pictures.again(one.wanted, terms.deadline)
                if isinstance(picture, Refused):
                    one.result = picture.result
                    return one.result
                self._submit(underway, one, picture, terms)
                answer = one.answer.result()
            one.result = result_of(one.row, answer)
        return one.result


class NullAnswerer:
    """Answers every item at once with its `custom_id`: what the queue itself can carry.

    For `BLIPLINE_MODEL=null`. Nothing is fetched, and no model is asked.
    """

    def answer(
        self, task: Task, items: list[Any], terms: Terms, underway: Underway
    ) -> list[Result]:
        """One result for each item, in their order."""
        return [
            {"text": item.get("custom_id") or "" if isinstance(item, dict) else ""}
            for item in items
        ]

    def cancel(self, row_ids: list[int]) -> None:
        """There are none."""
