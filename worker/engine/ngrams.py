"""The n-grams of a row, which may occur only once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


class Ngrams:
    """The n-grams of a row, updated token by token on the host."""

    def __init__(self, size: int, tokens: Sequence[int]) -> None:
        self.size = size
        self.followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        self.tail: tuple[int, ...] = ()
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        if len(self.tail) == self.size - 1:
            self.followers[self.tail].add(token)
        self.tail = (*self.tail, token)[1 - self.size :] if self.size > 1 else ()

    def banned(self) -> set[int]:
        """Return the tokens that would repeat an n-gram."""
        return self.followers.get(self.tail, set())
