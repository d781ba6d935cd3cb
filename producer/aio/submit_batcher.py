"""The submit batcher: jobs submitted at the same moment are enqueued in one round trip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ..contract import Task
from ..ledger import blobs
from ..ledger.records import NewJob
from .batching import Batcher

#: Maximum jobs enqueued in one round trip; the following jobs wait for the next one.
PAGE_JOBS: Final = 64

#: Types that can be read without running the caller's code and without blocking.
_PLAIN: Final = {str, int, float, bool, type(None), list, tuple, dict, Task}


class SubmitBatcher(Batcher[NewJob, None]):
    """A batcher of new jobs; jobs that arrive together share the cost of a round trip."""

    def __init__(
        self, publish_all: Callable[[Sequence[NewJob]], Awaitable[list[Exception | None]]]
    ) -> None:
        super().__init__(publish_all, PAGE_JOBS)


def is_nonblocking(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether building the job of this call is fast, and enqueueing it is one round trip.

    False if the call waits for capacity, or if its image must be read here and uploaded.
    """
    if kwargs.get("when_full", "raise") != "raise":
        return False
    if not all(type(value) in _PLAIN for value in (*args, *kwargs.values())):
        return False
    image = args[0] if args else kwargs.get("item", kwargs.get("image"))
    if isinstance(image, dict):
        image = image.get("image")
    return image is None or (isinstance(image, str) and blobs.is_reference(image))
