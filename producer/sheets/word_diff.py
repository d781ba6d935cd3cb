"""Differences of two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

#: A word or a mark of punctuation, with the spaces after it.
_WORD: Final = re.compile(r"(?:\w[\w'\u2019-]*|[^\w\s])\s*")

#: Parts of a text in order, each with True if the other text does not have it.
MarkedText = list[tuple[str, bool]]


def word_diff(first: str, second: str) -> tuple[MarkedText, MarkedText, float]:
    """Return both texts with their differences marked, and their similarity, 0 to 1.

    The similarity is twice the number of common words in order, of the words of both.
    """
    words, others = _WORD.findall(first.strip()), _WORD.findall(second.strip())
    plain, plain_others = [word.strip() for word in words], [word.strip() for word in others]
    matcher = SequenceMatcher(a=plain, b=plain_others, autojunk=False)
    marked: MarkedText = []
    marked_others: MarkedText = []
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        _append(marked, words[start:end], kind != "equal")
        _append(marked_others, others[other_start:other_end], kind != "equal")
    return marked, marked_others, matcher.ratio()


def _append(parts: MarkedText, words: Sequence[str], is_different: bool) -> None:
    """Append words as a part; the spaces after it are not marked."""
    text = "".join(words)
    if not is_different or text == (bare := text.rstrip()):
        parts += [(text, is_different)] if text else []
    else:
        parts += [(bare, True), (text[len(bare) :], False)]
