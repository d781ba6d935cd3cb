"""Rules of captions: replacements, prefix and suffix, banned phrases, existing captions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from ...errors import InvalidInput
from ...image_sources.picture import Picture

#: Treatment of captions that exist already.
Existing = Literal["skip", "overwrite", "append", "prepend", "keep-both"]

#: Placeholders of prefix and suffix; further ones are the columns of a table.
PLACEHOLDERS: Final = ("name", "stem", "folder", "number", "question")
_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class TextRules:
    """The rules that turn a model's text into a caption."""

    prefix: str = ""
    suffix: str = ""
    #: Pairs of a pattern and its replacement, in order.
    replacements: Sequence[tuple[re.Pattern[str], str]] = ()
    #: Matches a banned phrase; None: none is banned.
    banned: re.Pattern[str] | None = None
    existing: Existing = "skip"
    #: Text between an existing caption and an appended one.
    separator: str = ", "
    #: True if placeholders may name columns of a table.
    has_columns: bool = False
    #: Columns of placeholders that an image had.
    found_columns: set[str] = field(default_factory=set, compare=False)

    @cached_property
    def columns(self) -> list[str]:
        """The columns that placeholders name."""
        names = [match[1] for match in _PLACEHOLDER.finditer(self.prefix + self.suffix)]
        return [name for name in dict.fromkeys(names) if name and name not in PLACEHOLDERS]

    def check(self) -> None:
        """Raise InvalidInput for an unknown placeholder."""
        for match in _PLACEHOLDER.finditer(self.prefix + self.suffix):
            name = match[1]
            if name is not None and name not in PLACEHOLDERS and not self.has_columns:
                raise InvalidInput(
                    f"{{{name}}}: no such placeholder: choose {', '.join(PLACEHOLDERS)}, or a "
                    "column of a table; write {{ and }} for braces"
                )

    def captions(
        self, texts: Sequence[str], questions: Sequence[str], picture: Picture, existing: str | None
    ) -> list[str]:
        """Return the captions of an image from a model's texts, the one it had included."""
        captions = [
            self._caption(text, question, number, picture)
            for number, (text, question) in enumerate(zip(texts, questions, strict=True), start=1)
        ]
        return self._combine(existing, captions)

    def _caption(self, text: str, question: str, number: int, picture: Picture) -> str:
        for pattern, replacement in self.replacements:
            text = pattern.sub(replacement, text)
        if not (self.prefix or self.suffix):
            return text.strip()
        values: dict[str, Any] = {
            **picture.columns,
            "name": picture.name,
            "stem": picture.stem,
            "folder": picture.name.rpartition("/")[0].rpartition("/")[2],
            "number": number,
            "question": question,
        }
        self.found_columns.update(name for name in self.columns if name in picture.columns)
        return _fill(self.prefix, values) + text.strip() + _fill(self.suffix, values)

    def is_banned(self, text: str) -> bool:
        """Return whether a text has a banned phrase."""
        return self.banned is not None and self.banned.search(text) is not None

    def _combine(self, existing: str | None, captions: list[str]) -> list[str]:
        if not existing or self.existing in ("skip", "overwrite"):
            return captions
        if self.existing == "append":
            return [existing + self.separator + captions[0], *captions[1:]]
        if self.existing == "prepend":
            return [captions[0] + self.separator + existing, *captions[1:]]
        return [existing, *captions]

    def to_json(self) -> list[Any]:
        """Return all that determines the captions, for a digest."""
        pairs = [(pattern.pattern, pattern.flags, text) for pattern, text in self.replacements]
        banned = self.banned.pattern if self.banned else ""
        return [self.prefix, self.suffix, pairs, banned, self.existing, self.separator]


def banned_phrases(phrases: Sequence[str]) -> re.Pattern[str] | None:
    """Return a pattern of whole words for phrases, in any case; None if there are none.

    Raises InvalidInput for an empty one.
    """
    if not all(phrase.strip() for phrase in phrases):
        raise InvalidInput("--ban: the phrase is empty")
    quoted = [rf"(?<!\w){re.escape(phrase.strip())}(?!\w)" for phrase in phrases]
    return re.compile("|".join(quoted), re.IGNORECASE) if quoted else None


def replacement(pattern: str, text: str) -> tuple[re.Pattern[str], str]:
    """Compile a replacement; raises InvalidInput that names the pattern."""
    try:
        compiled = re.compile(pattern)
        # This checks the references to groups.
        compiled.sub(text, "")
    except (re.error, IndexError) as error:
        raise InvalidInput(f"--replace {pattern!r} {text!r}: {error}") from None
    return compiled, text


def _fill(template: str, values: Mapping[str, Any]) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        value = values.get(match[1])
        return "" if value is None else str(value)

    return _PLACEHOLDER.sub(value_of, template)
