"""CIDEr-D of captions, as pycocoevalcap computes it under the name CIDEr.

Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, CVPR 2015: the cosine of
TF-IDF vectors of n-grams, clipped, with a Gaussian penalty of the difference in length. The
document frequencies are those of the references, so the score of a single image is 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .ngrams import MAX_N, Ngram, count_ngrams

#: Standard deviation of the length penalty.
_SIGMA: Final = 6.0


@dataclass(frozen=True, slots=True)
class _TfIdf:
    """The TF-IDF vector of a caption, its norm for each order, and its length."""

    weights: dict[Ngram, float]
    norms: list[float]
    length: int


def cider(pairs: Iterable[tuple[str, Sequence[str]]]) -> list[float]:
    """Return the CIDEr-D of each tokenized caption against its references, 0 to 10."""
    counted = [
        (count_ngrams(caption), [count_ngrams(reference) for reference in references])
        for caption, references in pairs
    ]
    frequencies: Counter[Ngram] = Counter()
    for _, references in counted:
        frequencies.update(set().union(*references))
    return list(_scores(counted, frequencies))


def _scores(
    counted: Sequence[tuple[Counter[Ngram], list[Counter[Ngram]]]], frequencies: Counter[Ngram]
) -> Iterator[float]:
    log_images = math.log(len(counted)) if counted else 0.0

    def vector(counts: Counter[Ngram]) -> _TfIdf:
        weights, squares, length = {}, [0.0] * MAX_N, 0
        for ngram, count in counts.items():
            weight = count * (log_images - math.log(max(1, frequencies[ngram])))
            weights[ngram] = weight
            squares[len(ngram) - 1] += weight**2
            # The reference implementation counts bigrams.
            length += count if len(ngram) == 2 else 0
        return _TfIdf(weights, [math.sqrt(square) for square in squares], length)

    for caption, references in counted:
        candidate = vector(caption)
        similarities = [_similarity(candidate, vector(reference)) for reference in references]
        yield 10 * sum(similarities) / len(similarities)


def _similarity(candidate: _TfIdf, reference: _TfIdf) -> float:
    """Return the mean over all orders of the clipped cosine, with the length penalty."""
    products = [0.0] * MAX_N
    for ngram, weight in candidate.weights.items():
        expected = reference.weights.get(ngram, 0.0)
        products[len(ngram) - 1] += min(weight, expected) * expected
    cosines = (
        product / (norm * reference_norm) if norm and reference_norm else product
        for product, norm, reference_norm in zip(
            products, candidate.norms, reference.norms, strict=True
        )
    )
    difference = candidate.length - reference.length
    penalty = math.exp(-(difference**2) / (2 * _SIGMA**2))
    return penalty * sum(cosines) / MAX_N
