"""Contradictions between sentences."""

from __future__ import annotations

import pytest

from worker.recipes.contradictions import contradicts
from worker.recipes.sentences import Sentence


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a red circle on a grey background", "a blue circle"),
        ("a red circle on a grey background", "the background is a pink background"),
        ("two dogs play", "three dogs on a beach"),
        ("a man without a hat", "a man with a hat"),
        ("there is no car", "a car in a street"),
        ("a red circle left of a blue square", "a circle right of a square"),
        ("a star above a circle", "the star below the circle"),
        ("a street at night", "a sunny day"),
        ("people indoors", "people outdoors"),
    ],
)
def test_sentences_that_cannot_both_be_true_contradict_each_other(first: str, second: str) -> None:
    assert contradicts(Sentence(first), [Sentence("a tree"), Sentence(second)])
    assert contradicts(Sentence(second), [Sentence(first)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a red circle on a grey background", "a blue square"),
        ("a red circle left of a blue circle", "a blue circle on a pink background"),
        ("a grey background", "a gray background"),
        ("a red and white ball", "the white ball is small"),
        ("a man with a hat", "the hat is black"),
        ("two dogs play", "a dog with a ball"),
        ("a circle left of a square", "a square right of a circle"),
        ("a circle left of a square", "a star right of a square"),
        ("a cat", "a cat on a sofa"),
    ],
)
def test_sentences_that_may_both_be_true_do_not(first: str, second: str) -> None:
    assert not contradicts(Sentence(first), [Sentence(second)])
    assert not contradicts(Sentence(second), [Sentence(first)])
