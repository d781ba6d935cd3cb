"""What the page counts of a text."""

from __future__ import annotations

import pytest

from producer.page import stats


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("a red circle", 3),
        ("  a   red\ncircle. ", 3),
        ("don't look, it's well-known", 4),
        ("it\u2019s 3.5 km", 4),
        ("— … !", 0),
        ("ein roter Kreis über Größe", 5),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, words: int) -> None:
    assert stats.words(text) == words


def test_a_sentence_counts_characters_and_words_in_the_right_number() -> None:
    assert stats.sentence("a red circle") == "12 characters · 3 words"
    assert stats.sentence("a") == "1 character · 1 word"
    assert stats.sentence("") == "0 characters · 0 words"
    assert stats.sentence("ab " * 600) == "1,800 characters · 600 words"
