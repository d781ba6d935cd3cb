"""Isolation of failures: an invalid element must not fail a whole request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..connection.outage import is_retryable_error

Element = TypeVar("Element")
Answer = TypeVar("Answer")


def isolate_failures(
    request: Callable[[Sequence[Element]], list[Answer]], elements: Sequence[Element]
) -> list[Answer | Exception]:
    """Return the answer to each element, or the error of each element that fails separately.

    A failed request is repeated with each half of its elements. Therefore `request` must be
    idempotent, and must return one answer for each element, in order.
    """
    try:
        return [*request(elements)]
    except Exception as error:
        # During an outage, further requests are useless.
        outage = error.__cause__ is not None and is_retryable_error(error.__cause__)
        if len(elements) < 2 or outage:
            return [error] * len(elements)
    middle = len(elements) // 2
    return isolate_failures(request, elements[:middle]) + isolate_failures(
        request, elements[middle:]
    )
