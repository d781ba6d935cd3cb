"""Texts of an image from the stored answers, and the requests that are still missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ..storage.item import StoredAnswer
from ..storage.journal import Journal
from .recipe import Recipe, TextRequest
from .text_rules import TextRules

#: Error code of an image each of whose texts had a banned phrase.
BANNED: Final = "banned_phrase"


@dataclass(slots=True)
class Resolution:
    """The state of an image's texts."""

    #: A model's texts, complete if nothing is missing and nothing failed.
    texts: list[str] = field(default_factory=list)
    missing: list[TextRequest] = field(default_factory=list)
    failure: StoredAnswer | None = None


class AnswerResolver:
    """A reader of stored answers for one recipe."""

    def __init__(self, journal: Journal, recipe: Recipe, rules: TextRules) -> None:
        self._journal = journal
        self._recipe = recipe
        self._rules = rules

    def resolve(
        self, content: str, answers: Mapping[str, StoredAnswer] = MappingProxyType({})
    ) -> Resolution:
        """Return the texts of an image; a text with a banned phrase asks for the next attempt.

        `answers` are those in the journal that the caller has at hand, by the request's digest.
        """
        resolution = Resolution()
        for text in self._recipe.texts:
            for request in text.attempts:
                answer = answers.get(request.digest) or self._journal.answer(
                    content, request.digest
                )
                if answer is None:
                    resolution.missing.append(request)
                elif answer.text is None:
                    resolution.failure = answer
                elif self._rules.is_banned(answer.text):
                    continue
                else:
                    resolution.texts.append(answer.text)
                break
            else:
                message = f"each of {len(text.attempts)} texts has a banned phrase"
                resolution.failure = StoredAnswer(None, BANNED, message)
        return resolution
