"""Calibration of a threshold."""

from __future__ import annotations

import random

import pytest

from producer.capfilt.calibration import calibrate
from producer.errors import InvalidInput

SCORES = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, True), (0.4, False)]


@pytest.mark.parametrize(
    ("precision", "threshold", "recall"),
    [(1.0, 0.75, 0.5), (0.8, 0.45, 1.0), (0.75, 0.45, 1.0), (0.66, 0.2, 1.0)],
)
def test_the_lowest_threshold_with_the_precision_is_picked(
    precision: float, threshold: float, recall: float
) -> None:
    calibration = calibrate(SCORES, precision)
    assert (calibration.threshold, calibration.recall) == (threshold, recall)
    assert calibration.precision >= precision


def test_the_threshold_has_its_precision_and_no_lower_one_has() -> None:
    rng = random.Random(4)
    for _ in range(200):
        scores = [(round(rng.random(), rng.choice((1, 7))), rng.random() < 0.6) for _ in range(40)]
        precision = rng.uniform(0.3, 0.9)
        try:
            calibration = calibrate(scores, precision)
        except InvalidInput:
            assert all(precision_at(scores, score) < precision for score, _ in scores)
            continue
        accepted = sum(label for score, label in scores if score >= calibration.threshold)
        assert precision_at(scores, calibration.threshold) == calibration.precision >= precision
        assert accepted / sum(label for _, label in scores) == calibration.recall
        lower = [score for score, _ in scores if score < calibration.threshold]
        assert all(precision_at(scores, score) < precision for score in lower)


def precision_at(scores: list[tuple[float, bool]], threshold: float) -> float:
    labels = [label for score, label in scores if score >= threshold]
    return sum(labels) / len(labels)


def test_close_probabilities_are_separated() -> None:
    scores = [(0.5000001, True), (0.5, False)]
    assert 0.5 < calibrate(scores, 1.0).threshold <= 0.5000001


def test_a_precision_that_no_threshold_has_is_named_with_the_highest() -> None:
    with pytest.raises(InvalidInput, match=r"the highest is 0\.5000"):
        calibrate([(0.9, False), (0.8, True)], 0.95)


@pytest.mark.parametrize("scores", [[], [(0.5, False)]])
def test_calibration_without_right_texts_is_named(scores: list[tuple[float, bool]]) -> None:
    with pytest.raises(InvalidInput, match="labelled pairs"):
        calibrate(scores, 0.9)
