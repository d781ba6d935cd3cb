"""Retries of a failed forward batch in halves, down to the failing row (bisection)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


OUT_OF_MEMORY = "out_of_memory"
#: Full batches without an error after which a reduced batch limit is doubled.
GROW_AFTER = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a row that fails even as the only row of a batch."""

    code: str
    message: str


#: Batches of items, each with its result.
Parts = Iterator[tuple[Sequence[Item], Result | Failure]]


class Halving(Generic[Item, Result]):
    """A runner of forward batches that isolates failing items and adapts the batch limit.

    After running out of memory, `limit` becomes the size that fits. An AcceleratorError is raised:
    the device is broken and every later call would fail, so the process must end.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Result], limit: int) -> None:
        self.work = work
        self.limit = limit
        self._out_of_memory = False
        #: The limit before it was reduced, and the number of full batches since.
        self._initial_limit = self._full_batches = 0

    def run(self, items: Sequence[Item]) -> Parts[Item, Result]:
        """Yield every item once, in order, in batches with their result; a Failure has one item."""
        start = 0
        while start < len(items):
            batch = items[start : start + self.limit]
            start += len(batch)
            yield from self._adapt_limit(self._attempt(batch), len(batch))

    def _adapt_limit(self, parts: Parts[Item, Result], size: int) -> Parts[Item, Result]:
        """Yield a batch's parts, then adapt the limit to the largest part that fits memory."""
        self._out_of_memory, largest, all_fit = False, 0, True
        for part, result in parts:
            if isinstance(result, Failure):
                all_fit = all_fit and result.code != OUT_OF_MEMORY
            else:
                largest = max(largest, len(part))
            yield part, result
        # An item that does not fit by itself does not show that the others are too many.
        if self._out_of_memory and all_fit and 0 < largest < size:
            self._initial_limit = max(self._initial_limit, self.limit)
            self.limit, self._full_batches = largest, 0
        elif size == self.limit < self._initial_limit:
            self._full_batches += 1
            # Memory may be free again; trying costs one batch that runs twice.
            if self._full_batches == GROW_AFTER:
                self.limit, self._full_batches = min(self._initial_limit, 2 * self.limit), 0

    def _attempt(self, items: Sequence[Item]) -> Parts[Item, Result]:
        result: Result | Failure
        try:
            result = self.work(items)
        except torch.AcceleratorError:
            raise
        except (RuntimeError, MemoryError) as error:
            result = failure_of(error)
        if not isinstance(result, Failure):
            yield items, result
            return
        # Not inside `except`, where the error's frames would keep the batch's tensors alive.
        if result.code == OUT_OF_MEMORY:
            torch.cuda.empty_cache()
            self._out_of_memory = True
        if len(items) == 1:
            yield items, result
            return
        middle = len(items) // 2
        yield from self._attempt(items[:middle])
        yield from self._attempt(items[middle:])


def failure_of(error: Exception) -> Failure:
    """Return the Failure of a row that raised `error`."""
    # A CPU's allocator raises a plain RuntimeError.
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if memory or "can't allocate memory" in str(error):
        return Failure(OUT_OF_MEMORY, "This item does not fit the engine's memory, even by itself.")
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Failure("internal", f"The model failed on this item: {first_line}")
