"""Calibration: the threshold that keeps the most right texts at a wanted precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from ..errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, and its precision and recall on the labelled pairs."""

    threshold: float
    precision: float
    recall: float
    pairs: int


def calibrate(scores: Iterable[tuple[float, bool]], precision: float) -> Calibration:
    """Return the lowest threshold with at least this precision, from (probability, label) pairs.

    It lies midway between two probabilities of the labelled pairs. Raises InvalidInput if no
    threshold has the precision, or no text is right.
    """
    ranked = sorted(scores, reverse=True)
    right_total = sum(label for _, label in ranked)
    if not right_total:
        raise InvalidInput(
            "calibration needs labelled pairs, some of them right: set `label` to true or false"
        )
    best: Calibration | None = None
    right = accepted = 0
    highest_precision = 0.0
    for probability, texts in groupby(ranked, key=itemgetter(0)):
        labels = [label for _, label in texts]
        right, accepted = right + sum(labels), accepted + len(labels)
        highest_precision = max(highest_precision, right / accepted)
        if right / accepted >= precision:
            following = ranked[accepted][0] if accepted < len(ranked) else 0.0
            threshold = _between(following, probability)
            best = Calibration(threshold, right / accepted, right / right_total, len(ranked))
    if best is None:
        raise InvalidInput(
            f"no threshold has a precision of {precision:g} on the labelled pairs; the highest is "
            f"{highest_precision:.4f}. Choose a lower --precision, or check the labels"
        )
    return best


def _between(low: float, high: float) -> float:
    """Return a threshold above `low` that keeps `high`, with few decimals."""
    middle = (low + high) / 2
    for decimals in range(2, 8):
        rounded = round(middle, decimals)
        if low < rounded <= high:
            return rounded
    return high
