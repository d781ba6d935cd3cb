"""Banned words: token sequences that a row never generates, as transformers' `bad_words_ids`."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engine.request import GenerationOptions


def banned_tokens(options: GenerationOptions) -> list[int]:
    """Return the tokens that a row never generates, each once."""
    words = (word[0] for word in options.bad_word_ids if len(word) == 1)
    return sorted({*options.suppress_tokens, *words})


class BannedWords:
    """The banned words of several tokens: the last token is banned after all the others.

    The words may begin in the prompt. The state is updated token by token on the host.
    """

    def __init__(self, words: Sequence[tuple[int, ...]], prompt: Sequence[int]) -> None:
        self._words = [word for word in words if len(word) > 1]
        self._reach = max(map(len, self._words)) - 1
        self._tail = tuple(prompt[-self._reach :])

    def add(self, token: int) -> None:
        """Add the newest token."""
        self._tail = (*self._tail, token)[-self._reach :]

    def banned(self) -> set[int]:
        """Return the tokens that would complete a word."""
        return {word[-1] for word in self._words if self._tail[1 - len(word) :] == word[:-1]}
