"""A hit of a search: an image or a text of the index with its scores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .entry import Kind
from .storage.neighbours import PathFilter, Scored

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Hit:
    """An image or a text that a search returned."""

    kind: Kind
    #: Absolute path or reference of an image; the text.
    value: str
    #: Name in the index: the path below the source's folder; the text.
    name: str
    #: Cosine of its embedding and the query's, -1 to 1.
    cosine: float
    #: Probability that text and image match, 0 to 1; None unless re-ranked.
    probability: float | None = None
    #: Paths or references with the same content.
    copies: tuple[str, ...] = ()
    #: Reason that it was not re-ranked; None if it was, or was not to be.
    error: str | None = None

    @property
    def path(self) -> Path | None:
        """The local file; None for a text and for a reference."""
        is_file = self.kind is Kind.IMAGE and os.path.isabs(self.value)
        return Path(self.value) if is_file else None

    @property
    def source(self) -> Path | str:
        """The image as the client takes it: a path, or a reference."""
        return self.path or self.value

    def to_json(self) -> dict[str, Any]:
        """Return the fields of a line of JSON."""
        line: dict[str, Any] = {"kind": self.kind.value, self.kind.value: self.value}
        if self.kind is Kind.IMAGE:
            line["name"] = self.name
        line["cosine"] = round(self.cosine, 4)
        if self.probability is not None:
            line["probability"] = self.probability
        if self.copies:
            line["copies"] = list(self.copies)
        return line if self.error is None else line | {"error": self.error}


def hits_of(
    connection: sqlite3.Connection, scored: Sequence[Scored], paths: PathFilter
) -> Iterator[Hit]:
    """Yield a hit for each scored vector: its first entry that passes the filter, by name."""
    for number, cosine in scored:
        rows = connection.execute(
            "SELECT e.kind, e.value, e.name FROM vectors v JOIN entries e ON e.content = v.content "
            f"WHERE v.id = ? AND ({paths.condition}) ORDER BY e.name, e.key",
            (number, *paths.parameters),
        ).fetchall()
        if rows:
            (kind, value, name), *others = rows
            # Vectors are stored in half precision.
            bounded = max(-1.0, min(1.0, cosine))
            yield Hit(Kind(kind), value, name, bounded, copies=tuple(row[1] for row in others))
