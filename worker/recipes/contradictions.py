"""Contradictions between sentences, by rules that are sure rather than complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from worker.recipes.sentences import STOP_WORDS, Sentence, word_set

COLORS: Final = word_set(
    "red green blue yellow purple violet orange white black grey gray pink brown beige gold golden"
    " silver turquoise cyan magenta maroon navy tan"
)
NUMBERS: Final = word_set("two three four five six seven eight nine ten")
_NEGATIONS: Final = frozenset(("no", "not", "without", "never"))
#: Relations of which only one holds between two objects in the same order.
_OPPOSITES: Final = {"left": "right", "above": "below", "under": "above", "over": "under"}
#: Words of which only one is true of an image.
_EXCLUSIVE: Final = (
    ("day", "night"),
    ("indoors", "outdoors"),
    ("indoor", "outdoor"),
    ("summer", "winter"),
)
_SAME: Final = {"grey": "gray", "golden": "gold", "violet": "purple"}

Attributes = Mapping[str, frozenset[str]]


def contradicts(sentence: Sentence, accepted: Iterable[Sentence]) -> bool:
    """Return whether a sentence contradicts any sentence of a description."""
    return any(_contradict(sentence, earlier) for earlier in accepted)


def _contradict(first: Sentence, second: Sentence) -> bool:
    return (
        _attributes_differ(_attributes(first, COLORS), _attributes(second, COLORS))
        or _attributes_differ(_attributes(first, NUMBERS), _attributes(second, NUMBERS))
        or bool(_negated(first) & _affirmed(second) or _negated(second) & _affirmed(first))
        or _relations_differ(first, second)
        or any(_splits(pair, first.content, second.content) for pair in _EXCLUSIVE)
    )


def _attributes(sentence: Sentence, kinds: frozenset[str]) -> Attributes:
    """Return the attributes that stand before each noun; "red and white ball" has two."""
    attributes: defaultdict[str, set[str]] = defaultdict(set)
    pending: set[str] = set()
    for word in sentence.words:
        if word in kinds:
            pending.add(_SAME.get(word, word))
        elif word not in STOP_WORDS:
            attributes[word] |= pending
            pending = set()
        elif word != "and":
            pending = set()
    return {noun: frozenset(words) for noun, words in attributes.items() if words}


def _attributes_differ(first: Attributes, second: Attributes) -> bool:
    """Return whether a noun has attributes in both, none of which they share."""
    return any(first[noun].isdisjoint(second[noun]) for noun in first.keys() & second.keys())


def _negated(sentence: Sentence) -> frozenset[str]:
    """Return the first content word after each negation."""
    words = sentence.words
    return frozenset(
        noun
        for position, word in enumerate(words)
        if word in _NEGATIONS
        for noun in [w for w in words[position + 1 :] if w not in STOP_WORDS][:1]
    )


def _affirmed(sentence: Sentence) -> frozenset[str]:
    return sentence.content - _negated(sentence)


def _relations_differ(first: Sentence, second: Sentence) -> bool:
    """Return whether the same two objects, in the same order, have opposite relations."""
    for word, opposite in (*_OPPOSITES.items(), *((b, a) for a, b in _OPPOSITES.items())):
        if word in first.words and opposite in second.words:
            sides = [_sides(first, word), _sides(second, opposite)]
            if all(sides[0]) and sides[0] == sides[1]:
                return True
    return False


def _sides(sentence: Sentence, relation: str) -> tuple[str, str]:
    """Return the last content word before a relation and the first noun after it."""
    position = sentence.words.index(relation)
    before = [word for word in sentence.words[:position] if word not in STOP_WORDS]
    after = [
        word
        for word in sentence.words[position + 1 :]
        if word not in STOP_WORDS and word not in COLORS
    ]
    return (before[-1] if before else "", after[0] if after else "")


def _splits(pair: tuple[str, str], first: frozenset[str], second: frozenset[str]) -> bool:
    word, opposite = pair
    return (word in first and opposite in second) or (opposite in first and word in second)
