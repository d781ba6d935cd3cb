"""Sentences of generated texts: split, cleaned, and without the echo of their prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(words.split())


#: Words without content: they neither make a sentence new nor contradict another one.
STOP_WORDS: Final = word_set(
    "a an the and or but of in on at to with by for from as into over it its is are was were be"
    " been being there here this that these those some also which who while has have had do does"
    " image picture photo photograph snapshot view scene shows show showing shown depicts seen see"
    " can you i we he she they his her their"
)
#: Words that cannot end a sentence: the text was cut off after them.
_DANGLING: Final = word_set(
    "a an the and or but of in on at to with by for from as into is are was were has have there"
    " this that which who while its his her their"
)
_END: Final = re.compile(r"(?<=[.!?\u2026])\s+|\s*[\n;]+\s*")
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
#: A phrase of up to six words that is repeated immediately.
_LOOP: Final = re.compile(r"\b([^\W_]+(?:\s[^\W_]+){0,5}?)(?:,?\s\1\b)+", re.IGNORECASE)
_CARRIER: Final = re.compile(
    r"(?:this is |it is |there is )?(?:an?|the)? ?"
    r"(?:close[- ]?up )?(?:photo|photograph|picture|image|snapshot) (?:of|showing|with)",
    re.IGNORECASE,
)
_REPLACEMENTS: Final = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"\s*(['\u2019])\s*(?=(?:s|t|re|ve|ll|d|m)\b)"), r"\1"),
    (re.compile(r"\s+([,.;:!?\u2026)\]])"), r"\1"),
    (re.compile(r"([(\[])\s+"), r"\1"),
    (re.compile(r"([,;:])(?:\s*[,;:])+"), r"\1"),
    (re.compile(r"[.!?\u2026]{2,}"), "."),
)
_EDGES: Final = ' \t,.;:!?\u2026-\u2013\u2014_*#|/\\"\u201c\u201d\u00ab\u00bb<>'


@dataclass(frozen=True, eq=False)
class Sentence:
    """A cleaned sentence, without its final period and in the case of the model.

    Sentences that differ only in case or punctuation are equal.
    """

    body: str

    def __eq__(self, value: object) -> bool:
        return isinstance(value, Sentence) and self.words == value.words

    def __hash__(self) -> int:
        return hash(self.words)

    @property
    def text(self) -> str:
        """The sentence as prose."""
        end = "" if self.body.endswith((".", "!", "?", "\u2026")) else "."
        return f"{self.body[0].upper()}{self.body[1:]}{end}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words in lower case, in order."""
        return tuple(word.lower() for word in _WORD.findall(self.body))

    @cached_property
    def content(self) -> frozenset[str]:
        """The words that carry content."""
        return frozenset(self.words) - STOP_WORDS


def split_sentences(text: str, *, cut_off: bool = False) -> list[Sentence]:
    """Return the sentences of a text, cleaned; an incomplete last one is shortened or dropped."""
    parts = [part for part in _END.split(text) if part.strip()]
    if cut_off and len(parts) > 1 and not parts[-1].rstrip().endswith((".", "!", "?", "\u2026")):
        parts.pop()
    return list(_cleaned(parts))


def _cleaned(parts: list[str]) -> Iterator[Sentence]:
    for part in parts:
        sentence = Sentence(clean(part))
        # A replacement character is a token that is no text.
        if sentence.content and "\ufffd" not in part:
            yield sentence


def clean(text: str) -> str:
    """Return a sentence without stray punctuation, loops and words that dangle at its end."""
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = _LOOP.sub(r"\1", text).strip(_EDGES)
    text = _without_unbalanced(text)
    words = text.split(" ")
    while words and words[-1].strip(_EDGES).lower() in _DANGLING:
        words.pop()
    return " ".join(words).strip(_EDGES)


def _without_unbalanced(text: str) -> str:
    for opening, closing in ("()", "[]"):
        if text.count(opening) != text.count(closing):
            text = text.replace(opening, "").replace(closing, "")
    return text


def without_echo(answer: str, prompt: str) -> str:
    """Return an answer without its prompt, which tokenizers may return in another spelling."""
    expected = [letter for letter in prompt.lower() if letter.isalnum()]
    position = 0
    for letter in expected:
        while position < len(answer) and not answer[position].isalnum():
            position += 1
        if position == len(answer) or answer[position].lower() != letter:
            return answer
        position += 1
    return answer[position:]


def is_instruction(prompt: str) -> bool:
    """Return whether a prompt is no part of the description: a request, or "a photo of"."""
    prompt = prompt.strip()
    return prompt.endswith((".", "?", "!", ":")) or _CARRIER.fullmatch(prompt) is not None


def continued(answer: str, before: str, prompt: str) -> str:
    """Return the new text of an answer to `before` and `prompt`; "" if it only echoes them."""
    new = without_echo(answer, f"{before} {prompt}")
    if not any(letter.isalnum() for letter in new):
        return ""
    if is_instruction(prompt):
        return new.lstrip(_EDGES)
    return f"{prompt} {new.lstrip()}" if prompt else new
