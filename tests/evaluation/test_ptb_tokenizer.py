"""Tokens of captions equal those of the Java tokenizer."""

from __future__ import annotations

import pytest

from producer.evaluation.ptb_tokenizer import tokenize
from tests.evaluation.reference import VALUES


@pytest.mark.parametrize(("caption", "tokens"), VALUES["tokens"]["values"])
def test_the_tokens_are_those_of_the_java_tokenizer(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens


def test_a_caption_without_tokens_is_empty() -> None:
    assert tokenize("  . ! ... \n") == tokenize("") == ""


def test_a_line_break_separates_words() -> None:
    assert tokenize("two dogs\nin  snow") == "two dogs in snow"
