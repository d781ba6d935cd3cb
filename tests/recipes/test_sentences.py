"""Sentences of generated texts: splitting, cleaning, echoes of prompts."""

from __future__ import annotations

import pytest

from worker.recipes.sentences import Sentence, clean, continued, is_instruction, split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat on a sofa", "A cat on a sofa."),
        ("  a cat ,  on a sofa .", "A cat, on a sofa."),
        ("a cat on a sofa ...", "A cat on a sofa."),
        ('" a cat on a sofa "', "A cat on a sofa."),
        ("- a cat,, on a sofa,", "A cat, on a sofa."),
        ("a cat on a sofa with a", "A cat on a sofa."),
        ("a cat on a sofa and", "A cat on a sofa."),
        ("a cat on on a a sofa", "A cat on a sofa."),
        ("a man with a dog with a dog with a dog", "A man with a dog."),
        ("a cat (on a sofa", "A cat on a sofa."),
        ("a cat ( black ) on a sofa", "A cat (black) on a sofa."),
        ("the cat ' s tail", "The cat's tail."),
        ("été à la plage", "Été à la plage."),
    ],
)
def test_a_sentence_is_clean_prose(text: str, expected: str) -> None:
    assert [sentence.text for sentence in split_sentences(text)] == [expected]


@pytest.mark.parametrize("text", ["", " . ", "the", "a photo of", "?!", "of the", "\ufffd\ufffd a"])
def test_a_text_without_content_has_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


def test_cleaning_twice_changes_nothing() -> None:
    for text in ("a cat ,, on a a sofa , and", '"x" ( y', "a b. c ; d", "one two one two one"):
        assert clean(clean(text)) == clean(text)


def test_sentences_end_at_periods_and_lines() -> None:
    text = "a cat sits. a dog runs!\nthe sky is blue; birds fly"
    assert [s.text for s in split_sentences(text)] == [
        "A cat sits.",
        "A dog runs.",
        "The sky is blue.",
        "Birds fly.",
    ]


def test_the_last_sentence_of_a_text_that_was_cut_off_is_dropped_unless_it_is_the_only_one() -> (
    None
):
    assert [s.text for s in split_sentences("a cat sits. a dog ru", cut_off=True)] == [
        "A cat sits."
    ]
    assert [s.text for s in split_sentences("a dog on the", cut_off=True)] == ["A dog."]


@pytest.mark.parametrize(
    ("answer", "before", "prompt", "expected"),
    [
        ("a red circle on grey", "", "", "a red circle on grey"),
        ("a red circle on grey", "", "a red", "a red circle on grey"),
        ("A RED circle", "", "a red", "a red circle"),
        # A carrier phrase or a request is no part of the description
        ("a photo of a cat", "", "a photo of", "a cat"),
        ("describe the image. a cat", "", "Describe the image.", "a cat"),
        ("Question: what is it? Answer: a cat", "", "Question: what is it? Answer:", "a cat"),
        # A tokenizer may return the prompt in another spelling
        ("it ' s a cat", "", "It's", "It's a cat"),
        ("a cat. there is also a dog", "a cat", "there is also", "there is also a dog"),
        # Only an echo
        ("a photo of", "", "a photo of", ""),
        ("a cat. there is also.", "a cat", "there is also", ""),
        # No echo at all, as of a model that answers only
        ("a dog", "a cat", "there is also", "there is also a dog"),
    ],
)
def test_an_answer_loses_the_echo_of_its_prompt(
    answer: str, before: str, prompt: str, expected: str
) -> None:
    assert continued(answer, before, prompt) == expected


def test_requests_and_carrier_phrases_are_instructions() -> None:
    for prompt in ("a photo of", "the picture showing", "What is it?", "List the objects:"):
        assert is_instruction(prompt)
    for prompt in ("", "a red", "a painting of", "there is", "a photo of a cat"):
        assert not is_instruction(prompt)


def test_sentences_that_differ_in_case_or_punctuation_are_equal() -> None:
    sentences = dict.fromkeys([Sentence("a Cat, here"), Sentence("a cat here"), Sentence("a dog")])
    assert [sentence.body for sentence in sentences] == ["a Cat, here", "a dog"]
