"""Pending items: the state of an item from its validation to its result."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from producer import contract
from producer.contract import ItemResult, MatchPayload, Task
from worker.consumer.validation import CheckedItem
from worker.engine.request import Answer
from worker.images.loader import ImageRequest


@dataclass(slots=True)
class PendingItem:
    """An item that is being processed."""

    item: CheckedItem
    image: ImageRequest
    #: Key of its image's pixels, once known; "" if the item has no image.
    hash: str | None = None
    #: Key of its result in the result cache; None if it is not cacheable.
    key: str | None = None
    answer: Future[Answer] | None = None
    result: ItemResult | None = None
    cached: bool = False

    @property
    def cacheable(self) -> tuple[str, ItemResult] | None:
        """The cache key and the result, if the result is new and may be cached."""
        if self.cached or self.key is None or self.result is None or "error" in self.result:
            return None
        return self.key, self.result


def result_of(item: CheckedItem, answer: Answer) -> ItemResult:
    """Return the result of an item's task from the engine's answer."""
    if answer.error_code is not None:
        return contract.failure(answer.error_code, answer.error_message)
    if item.task is Task.EMBED:
        return {"embedding": [round(value, 7) for value in answer.embedding]}
    if item.task is Task.MATCH:
        matches: list[MatchPayload] = [
            {"text": text, "probability": round(probability, 7), "cosine": round(cosine, 7)}
            for text, (probability, cosine) in zip(item.texts, answer.scores, strict=True)
        ]
        _, likeliest = max((score, -index) for index, (score, _) in enumerate(answer.scores))
        return {"text": item.texts[-likeliest], "matches": matches}
    return {"text": answer.text}
