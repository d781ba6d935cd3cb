"""A batch that fails is run again in halves, down to the one row at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one row could not be run, even alone."""

    code: str
    message: str


class Halving(Generic[Item, Result]):
    """Runs batches through `work`, one result for each batch.

    The size that fits memory is remembered. A fault of the device itself (AcceleratorError: every
    later call would fail too) is raised: the process has to end, and its work is run elsewhere.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Result], limit: int) -> None:
        self.work = work
        self.limit = limit

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Result | Failure]]:
        """Yield every item once, in order, in batches with their result; a Failure has one item."""
        done = 0
        while done < len(items):
            batch = items[done : done + self.limit]
            yield from self._attempt(batch)
            done += len(batch)

    def _attempt(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Result | Failure]]:
        result: Result | Failure
        try:
            result = self.work(items)
        except torch.AcceleratorError:
            raise
        except (RuntimeError, MemoryError) as error:
            result = describe(error)
        if not isinstance(result, Failure):
            yield items, result
            return
        # Outside of `except`: there the error's frames would keep the batch's tensors alive.
        if result.code == "out_of_memory":
            torch.cuda.empty_cache()
            self.limit = max(1, len(items) // 2)
        if len(items) == 1:
            yield items, result
            return
        middle = len(items) // 2
        yield from self._attempt(items[:middle])
        yield from self._attempt(items[middle:])


def describe(error: Exception) -> Failure:
    """The error code and a sentence for a row that cannot be run."""
    # A CPU's allocator raises a plain RuntimeError.
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if memory or "can't allocate memory" in str(error):
        return Failure("out_of_memory", "This row alone does not fit the engine's memory.")
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Failure("internal", f"The model failed on this row: {first_line}")
