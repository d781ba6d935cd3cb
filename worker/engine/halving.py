"""A batch that fails is run again in halves, down to the one row at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


OUT_OF_MEMORY = "out_of_memory"
#: Full batches of the size that fits, after which a larger one is tried again.
GROW_AFTER = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one row could not be run, even alone."""

    code: str
    message: str


#: Batches of items, each with its result.
Parts = Iterator[tuple[Sequence[Item], Result | Failure]]


class Halving(Generic[Item, Result]):
    """Runs batches through `work`, one result for each batch.

    The size that fits memory is remembered. A fault of the device itself (AcceleratorError: every
    later call would fail too) is raised: the process has to end, and its work is run elsewhere.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Result], limit: int) -> None:
        self.work = work
        self.limit = limit
        self._short_of_memory = False
        #: The limit before memory ran short, and full batches that have fitted since.
        self._wanted = self._fitted = 0

    def run(self, items: Sequence[Item]) -> Parts[Item, Result]:
        """Yield every item once, in order, in batches with their result; a Failure has one item."""
        done = 0
        while done < len(items):
            batch = items[done : done + self.limit]
            done += len(batch)
            yield from self._remember(self._attempt(batch), len(batch))

    def _remember(self, parts: Parts[Item, Result], size: int) -> Parts[Item, Result]:
        """Pass a batch's parts on, and learn from them what size fits memory."""
        self._short_of_memory, largest, all_fit = False, 0, True
        for part, result in parts:
            if isinstance(result, Failure):
                all_fit = all_fit and result.code != OUT_OF_MEMORY
            else:
                largest = max(largest, len(part))
            yield part, result
        # An item that does not fit alone says nothing about how many of the others do.
        if self._short_of_memory and all_fit and 0 < largest < size:
            self._wanted = max(self._wanted, self.limit)
            self.limit, self._fitted = largest, 0
        elif size == self.limit < self._wanted:
            self._try_more()

    def _try_more(self) -> None:
        """What took the memory may be gone; to find out costs one batch that is run again."""
        self._fitted += 1
        if self._fitted == GROW_AFTER:
            self.limit, self._fitted = min(self._wanted, 2 * self.limit), 0

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
        # Outside of `except`: there the error's frames would keep the batch's tensors alive.
        if result.code == OUT_OF_MEMORY:
            torch.cuda.empty_cache()
            self._short_of_memory = True
        if len(items) == 1:
            yield items, result
            return
        middle = len(items) // 2
        yield from self._attempt(items[:middle])
        yield from self._attempt(items[middle:])


def failure_of(error: Exception) -> Failure:
    """The error code and a sentence for a row that cannot be run."""
    # A CPU's allocator raises a plain RuntimeError.
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if memory or "can't allocate memory" in str(error):
        return Failure(OUT_OF_MEMORY, "This row alone does not fit the engine's memory.")
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Failure("internal", f"The model failed on this row: {first_line}")
