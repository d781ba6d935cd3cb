"""A number and its noun, for messages and summaries."""

from __future__ import annotations

#: Nouns whose plural does not add an s.
_PLURALS = {"batch": "batches", "entry": "entries", "query": "queries"}


def quantity(number: int, noun: str) -> str:
    """Return "1 image", "2 images", "1,234 image files"; `noun` is the singular."""
    if number == 1:
        return f"{number} {noun}"
    *words, last = noun.split(" ")
    return " ".join([f"{number:,}", *words, _PLURALS.get(last, f"{last}s")])
