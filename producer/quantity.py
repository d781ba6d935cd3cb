"""Numbers with their nouns, and rates, for messages and summaries."""

from __future__ import annotations

#: Nouns whose plural does not add an s.
_PLURALS = {"batch": "batches", "entry": "entries", "query": "queries"}


def quantity(number: int, noun: str) -> str:
    """Return "1 image", "2 images", "1,234 image files"; `noun` is the singular."""
    if number == 1:
        return f"{number} {noun}"
    *words, last = noun.split(" ")
    return " ".join([f"{number:,}", *words, _PLURALS.get(last, f"{last}s")])


def rate_text(rate: float) -> str:
    """Return a rate with three significant digits, or all of its whole part: 1.5, 12.3, 1,234."""
    # The format of three digits would write 999.6 and more as 1e+03.
    return f"{rate:.3g}" if rate < 999.5 else f"{rate:,.0f}"
