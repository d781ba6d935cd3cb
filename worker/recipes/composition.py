"""Composition of a description from ranked sentences.

A sentence is worth its probability times the number of content words that it adds. The most
valuable one is added first. Sentences that the image does not support, that repeat the description
or contradict it are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from worker.recipes.contradictions import contradicts
from worker.recipes.sentences import Sentence

#: Minimum probability (image-text matching) of a sentence.
MIN_PROBABILITY: Final = 0.5
#: Minimum share of new words among the content words of a sentence.
MIN_NEW_SHARE: Final = 0.5


@dataclass
class Composition:
    """The sentences of a description so far."""

    sentences: list[Sentence] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The description as prose."""
        return " ".join(sentence.text for sentence in self.sentences)

    def add(self, probabilities: dict[Sentence, float]) -> bool:
        """Add the sentences that enrich the description; return whether there were any.

        If the image supports none, the likeliest sentence becomes the description.
        """
        supported = [s for s, p in probabilities.items() if p >= MIN_PROBABILITY]
        if not self.sentences and not supported and probabilities:
            supported = [max(probabilities, key=lambda s: (probabilities[s], -len(s.body)))]
        added = False
        while supported:
            best = max(supported, key=lambda s: probabilities[s] * len(self.new_words(s)))
            supported.remove(best)
            added = self._add(best) or added
        return added

    def new_words(self, sentence: Sentence) -> frozenset[str]:
        """Return the content words that the description lacks."""
        return sentence.content.difference(*(earlier.content for earlier in self.sentences))

    def _add(self, sentence: Sentence) -> bool:
        new = self.new_words(sentence)
        rest = [earlier for earlier in self.sentences if not earlier.content <= sentence.content]
        replaces = len(rest) < len(self.sentences)
        if not new or not (replaces or len(new) >= MIN_NEW_SHARE * len(sentence.content)):
            return False
        if contradicts(sentence, self.sentences):
            return False
        # A sentence that contains all of an earlier one takes its position.
        position = next(
            (i for i, earlier in enumerate(self.sentences) if earlier not in rest),
            len(self.sentences),
        )
        self.sentences = [
            *(earlier for earlier in self.sentences[:position] if earlier in rest),
            sentence,
            *(earlier for earlier in self.sentences[position:] if earlier in rest),
        ]
        return True
