"""An item between its message and its result."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from producer import contract
from producer.contract import Task
from worker.consumer.validation import CheckedItem
from worker.engine.request import Answer
from worker.errors import Result
from worker.images.loader import ImageRequest


@dataclass(slots=True)
class PendingItem:
    """An item on its way to a result."""

    item: CheckedItem
    image: ImageRequest
    #: Of its image, once it is known; "" where there is none.
    hash: str | None = None
    #: Where its answer is kept for others.
    key: str | None = None
    answer: Future[Answer] | None = None
    result: Result | None = None
    cached: bool = False

    def __post_init__(self) -> None:
        reference = self.image.reference
        if not reference:
            self.hash = ""
        elif contract.is_blob(reference):
            self.hash = contract.blob_hash(reference)

    @property
    def cacheable(self) -> tuple[str, Result] | None:
        """The answer and where to keep it, if others can be given it."""
        if self.cached or self.key is None or self.result is None or "error" in self.result:
            return None
        return self.key, self.result


def result_of(row: CheckedItem, answer: Answer) -> Result:
    """What the task gives, from what the engine says."""
    if answer.error_code is not None:
        return contract.failure(answer.error_code, answer.error_message)
    if row.task is Task.EMBED:
        return {"embedding": [round(value, 7) for value in answer.embedding]}
    if row.task is Task.MATCH:
        matches = [
            {"text": text, "probability": round(probability, 7), "cosine": round(cosine, 7)}
            for text, (probability, cosine) in zip(row.texts, answer.scores, strict=True)
        ]
        _, likeliest = max((score, -place) for place, (score, _) in enumerate(answer.scores))
        return {"text": row.texts[-likeliest], "matches": matches}
    return {"text": answer.text}
