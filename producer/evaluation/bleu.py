"""BLEU-1 to BLEU-4 of a corpus, as pycocoevalcap computes them.

Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002. The
reference length of a caption is that of the closest reference, and no smoothing is applied.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from .ngrams import MAX_N, Ngram, count_ngrams

#: Terms of pycocoevalcap that keep the quotients defined.
_TINY: Final = 1e-15
_SMALL: Final = 1e-9


def bleu(pairs: Iterable[tuple[str, Sequence[str]]]) -> list[float]:
    """Return BLEU-1 to BLEU-4, 0 to 1, of pairs of a tokenized caption and its references."""
    matching, total = [0] * MAX_N, [0] * MAX_N
    length = reference_length = 0
    for caption, references in pairs:
        words = len(caption.split())
        length += words
        reference_length += _closest_length(words, references)
        for order, (hits, count) in enumerate(_clipped_matches(caption, references)):
            matching[order] += hits
            total[order] += count
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity_penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(MAX_N):
        product *= (matching[order] + _TINY) / (total[order] + _SMALL)
        scores.append(brevity_penalty * product ** (1 / (order + 1)))
    return scores


def _closest_length(words: int, references: Sequence[str]) -> int:
    """Return the length of the closest reference, the shorter of two equally close."""
    lengths = (len(reference.split()) for reference in references)
    return min(lengths, key=lambda length: (abs(length - words), length))


def _clipped_matches(caption: str, references: Sequence[str]) -> list[tuple[int, int]]:
    """Return for each order the n-grams that a reference has too, and all n-grams."""
    allowed: Counter[Ngram] = Counter()
    for reference in references:
        allowed |= count_ngrams(reference)
    counts = [(0, 0)] * MAX_N
    for ngram, count in count_ngrams(caption).items():
        hits, total = counts[len(ngram) - 1]
        counts[len(ngram) - 1] = (hits + min(count, allowed[ngram]), total + count)
    return counts
