"""Two outputs side by side: their entries by name, and the differences of their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import InvalidInput
from .entry import SheetEntry
from .word_diff import MarkedText, word_diff


@dataclass(frozen=True, slots=True)
class ComparedEntry:
    """An image with its entries in two outputs, of which one may be missing."""

    first: SheetEntry | None
    second: SheetEntry | None
    #: The two texts with their differences marked.
    first_text: MarkedText
    second_text: MarkedText
    #: Similarity of the texts, 0 to 1.
    similarity: float

    @property
    def entry(self) -> SheetEntry:
        """The entry that names the image."""
        entry = self.first or self.second
        assert entry is not None
        return entry

    @property
    def kind(self) -> str:
        """``same``, ``different``, ``error``, or ``first`` or ``second`` if only that has it."""
        if self.first is None:
            return "second"
        if self.second is None:
            return "first"
        if self.first.error or self.second.error:
            return "error"
        return "same" if self.first.text == self.second.text else "different"


def compare(first: Sequence[SheetEntry], second: Sequence[SheetEntry]) -> Iterator[ComparedEntry]:
    """Yield the images of both outputs, in the order of the first; raises InvalidInput.

    Entries belong together if their names are equal; names that occur several times are matched in
    order.
    """
    remaining: dict[str, list[SheetEntry]] = {}
    for entry in second:
        remaining.setdefault(entry.name, []).append(entry)
    if not any(entry.name in remaining for entry in first):
        raise InvalidInput(
            f"the two outputs have no image in common: the first begins with {first[0].name!r}, "
            f"the second with {second[0].name!r}"
        )
    for entry in first:
        same_name = remaining.get(entry.name)
        yield _compared(entry, same_name.pop(0) if same_name else None)
    for entries in remaining.values():
        for entry in entries:
            yield _compared(None, entry)


def _compared(first: SheetEntry | None, second: SheetEntry | None) -> ComparedEntry:
    if first is None:
        return ComparedEntry(None, second, [], _unmarked(second), 0.0)
    if second is None:
        return ComparedEntry(first, None, _unmarked(first), [], 0.0)
    return ComparedEntry(first, second, *word_diff(first.text, second.text))


def _unmarked(entry: SheetEntry | None) -> MarkedText:
    return [(entry.text, False)] if entry is not None and entry.text else []
