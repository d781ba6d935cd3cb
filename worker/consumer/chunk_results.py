"""The results of a chunk, which Celery stores as JSON and shows as a short summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from producer.contract import ErrorCode, ItemResult
from producer.ledger.item_summary import quote
from worker.consumer.item_handler import ChunkState

#: Maximum characters of a text in a summary.
TEXT_CHARS: Final = 60


def all_cancelled(results: Sequence[ItemResult]) -> bool:
    """Return whether every item was cancelled; also true of a deleted job, which has no results."""
    return all(_outcome(result) == ErrorCode.CANCELLED for result in results)


class ChunkResults:
    """The results of a chunk.

    Celery's events and logs contain the `repr` of a result. Not a list, of which Celery would show
    the beginning.
    """

    def __init__(self, results: list[ItemResult], state: ChunkState) -> None:
        self._results, self._state = results, state

    def __iter__(self) -> Iterator[ItemResult]:
        return iter(self._results)

    def __json__(self) -> list[ItemResult]:
        return self._results

    def __repr__(self) -> str:
        """Return `31 done, 1 image_invalid, 12.5 rows a batch: 'a cat', …`."""
        outcomes = Counter(map(_outcome, self._results)).items()
        several = len(self._results) > 1
        parts = [f"{count} {outcome}" if several else outcome for outcome, count in outcomes]
        if self._state.step_answers:
            parts.append(f"{self._state.step_rows / self._state.step_answers:.1f} rows a batch")
        texts = quote((r["text"] for r in self._results if r.get("text")), TEXT_CHARS)
        return ": ".join(filter(None, [", ".join(parts), texts]))


def _outcome(result: ItemResult) -> str:
    return result["error"]["code"] if "error" in result else "done"
