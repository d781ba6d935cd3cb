"""The indefinite article of the world's phrases."""

from __future__ import annotations

from collections.abc import Sequence

ARTICLES = ("a", "an")

#: Letters that begin a vowel sound in every word of the world.
VOWELS = "aeiou"


def article(word: str) -> str:
    """Return the article that stands before this word."""
    return "an" if word[0] in VOWELS else "a"


def indefinite(name: str) -> str:
    """Put the article before a name: "an orange star"."""
    return f"{article(name)} {name}"


def substitute(words: Sequence[str], index: int, word: str) -> list[str]:
    """Replace the word at this index, and let an article before it agree with the new one."""
    changed = list(words)
    changed[index] = word
    if index > 0 and changed[index - 1] in ARTICLES:
        changed[index - 1] = article(word)
    return changed
