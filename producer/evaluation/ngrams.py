"""Counts of the n-grams of a tokenized caption, which BLEU and CIDEr compare."""

from __future__ import annotations

from collections import Counter
from typing import Final

#: Longest n-gram of BLEU-4 and CIDEr.
MAX_N: Final = 4

Ngram = tuple[str, ...]


def count_ngrams(tokens: str) -> Counter[Ngram]:
    """Return how often each n-gram of 1 to MAX_N tokens occurs."""
    words = tokens.split()
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, MAX_N + 1)
        for start in range(len(words) - length + 1)
    )
