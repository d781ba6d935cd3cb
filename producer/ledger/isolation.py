"""Asking for many things at once, where one that is wrong must harm no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import redis

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")

#: What redis-py raises when there is no use in asking for something else.
_AWAY: Final = (redis.ConnectionError, redis.TimeoutError, OSError)


def isolate_failures(
    ask: Callable[[Sequence[Thing]], list[Answer]], things: Sequence[Thing]
) -> list[Answer | Exception]:
    """What `ask` says of all of them, or what it raises for each that it cannot be asked for.

    `ask` gives as many answers as it is given things, and may be asked for the same ones again.
    """
    try:
        return [*ask(things)]
    except Exception as error:
        if len(things) < 2 or isinstance(error.__cause__, _AWAY):
            return [error] * len(things)
    middle = len(things) // 2
    return isolate_failures(ask, things[:middle]) + isolate_failures(ask, things[middle:])
