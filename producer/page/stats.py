"""What can be counted of a text."""

from __future__ import annotations

import re
from typing import Final

#: Letters and digits, also with an apostrophe or a hyphen inside: ``don't`` is one word.
_WORD: Final = re.compile(r"\w+(?:['\u2019-]\w+)*")


def characters(text: str) -> int:
    """Unicode characters, spaces included."""
    return len(text)


def words(text: str) -> int:
    """Runs of letters and digits. Text without spaces between words is one for each run."""
    return len(_WORD.findall(text))


def sentence(text: str) -> str:
    """``41 characters · 9 words``."""
    return f"{_counted(characters(text), 'character')} · {_counted(words(text), 'word')}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
