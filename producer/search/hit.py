"""A hit of a search: an image or a text of the index with its scores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Locator
from .entry import Kind, locator_of
from .storage.neighbours import PathFilter, Scored

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class Hit:
    """An image or a text that a search returned."""

    kind: Kind
    #: Absolute path or reference of an image, or the path of its archive and its name; the text.
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
    #: Location of an image within an archive, a table or a store; None for any other.
    locator: Locator | None = None

    @property
    def path(self) -> Path | None:
        """The local file; None for a text, a reference and a part of a file."""
        is_file = self.kind is Kind.IMAGE and os.path.isabs(self.value) and self.locator is None
        return Path(self.value) if is_file else None

    @property
    def source(self) -> Path | str:
        """The image as the client takes it: a path, or a reference."""
        return self.path or self.value

    def read(self) -> Path | str | bytes:
        """Return the image as the client takes it; raises InvalidInput if it is gone."""
        return self.source if self.locator is None else ImageBytes().read(self.locator)

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
            "SELECT e.kind, e.value, e.name, e.key "
            "FROM vectors v JOIN entries e ON e.content = v.content "
            f"WHERE v.id = ? AND ({paths.condition}) ORDER BY e.name, e.key",
            (number, *paths.parameters),
        ).fetchall()
        if rows:
            (kind, value, name, _), *others = rows
            locator = locator_of(Kind(kind), value)
            if locator is not None and locator.kind == "file":
                locator = None
            # Vectors are stored in half precision.
            bounded = max(-1.0, min(1.0, cosine))
            copies = tuple(map(_shown, others))
            yield Hit(Kind(kind), _shown(rows[0]), name, bounded, copies=copies, locator=locator)


def _shown(row: tuple[str, str, str, str]) -> str:
    """Return the value of an entry; its key if the image is a part of a file or an object."""
    kind, value, _, key = row
    locator = locator_of(Kind(kind), value)
    return value if locator is None or locator.kind == "file" else key
