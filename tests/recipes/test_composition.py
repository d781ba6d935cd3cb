"""Composition of a description from ranked sentences."""

from __future__ import annotations

import random

from worker.recipes.composition import Composition
from worker.recipes.sentences import Sentence


def compose(*rounds: dict[str, float]) -> str:
    composition = Composition()
    for probabilities in rounds:
        composition.add({Sentence(text): p for text, p in probabilities.items()})
    return composition.text


def test_the_sentence_with_the_most_true_words_comes_first() -> None:
    text = compose({"a cat": 0.99, "a cat on a green sofa": 0.9, "a dog in a car in a field": 0.1})
    assert text == "A cat on a green sofa."


def test_sentences_that_add_something_follow() -> None:
    assert compose({"a lamp in a window": 0.8, "a cat on a sofa": 0.9}) == (
        "A cat on a sofa. A lamp in a window."
    )


def test_repeated_contradicting_and_unsupported_sentences_are_dropped() -> None:
    first = {"a black cat on a sofa": 0.9}
    assert compose(first, {"a cat on a sofa": 0.99}) == "A black cat on a sofa."
    assert compose(first, {"a white cat near a window": 0.99}) == "A black cat on a sofa."
    assert compose(first, {"a lamp near the window": 0.4}) == "A black cat on a sofa."
    # A word of two is new, and a word of three
    first = {"a black cat on a sofa": 0.9}
    assert compose(first, {"the sofa is big": 0.9}) == "A black cat on a sofa. The sofa is big."
    assert compose(first, {"a cat on a big sofa": 0.9}) == "A black cat on a sofa."


def test_a_longer_sentence_takes_the_position_of_those_that_it_contains() -> None:
    rounds = {"a cat": 0.9, "a lamp": 0.8}, {"a cat on a sofa": 0.9}
    assert compose(*rounds) == "A cat on a sofa. A lamp."


def test_the_likeliest_sentence_is_used_if_the_image_supports_none() -> None:
    assert compose({"a cat": 0.2, "a dog on a sofa": 0.1}) == "A cat."
    assert compose({"a cat": 0.2}, {"a dog": 0.3}) == "A cat."
    assert compose({}) == ""


def test_no_sentence_occurs_twice_whatever_the_candidates() -> None:
    rng = random.Random(3)
    words = ["cat", "dog", "sofa", "lamp", "window", "street", "car", "tree", "red", "blue", "two"]
    for _ in range(200):
        composition = Composition()
        for _ in range(3):
            texts = [" ".join(rng.choices(words, k=rng.randint(1, 5))) for _ in range(6)]
            composition.add({Sentence(text): rng.random() for text in texts})
        contents = [sentence.content for sentence in composition.sentences]
        for i, content in enumerate(contents):
            assert not any(content <= earlier for earlier in contents[:i] + contents[i + 1 :])
