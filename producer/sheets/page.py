"""The page of a sheet: one HTML file with its data, style and script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any, BinaryIO, Final

from .comparison import ComparedEntry
from .entry import SheetEntry
from .word_diff import MarkedText

#: Entries of a chunk: the page renders and empties them together.
CHUNK: Final = 100


@dataclass(frozen=True, slots=True)
class SheetData:
    """The entries of a page, as the script reads them."""

    title: str
    #: Names of the two outputs of a comparison; empty for a sheet.
    runs: tuple[str, ...]
    entries: Sequence[dict[str, Any]]

    @classmethod
    def of_output(
        cls, title: str, entries: Sequence[SheetEntry], links: Sequence[str | None]
    ) -> SheetData:
        """Return the data of a sheet; `links` are the URLs of the images."""
        rows = (
            {"n": entry.name, "t": entry.text, "e": entry.error, "f": entry.fields, "u": link}
            for entry, link in zip(entries, links, strict=True)
        )
        return cls(title, (), [_without_empty(row) for row in rows])

    @classmethod
    def of_comparison(
        cls,
        title: str,
        runs: tuple[str, str],
        entries: Sequence[ComparedEntry],
        links: Sequence[str | None],
    ) -> SheetData:
        """Return the data of a comparison; `links` are the URLs of the images."""
        rows = (
            {
                "n": entry.entry.name,
                "k": entry.kind,
                "s": round(entry.similarity, 4),
                "a": _run(entry.first, entry.first_text),
                "b": _run(entry.second, entry.second_text),
                "f": entry.entry.fields,
                "u": link,
            }
            for entry, link in zip(entries, links, strict=True)
        )
        return cls(title, runs, [_without_empty(row) for row in rows])


def write_page(file: BinaryIO, data: SheetData, thumbnails: Iterable[str] | None) -> None:
    """Write the page; `thumbnails` in the order of the entries, or None to load images by link."""
    style, script = _asset("sheet.css"), _asset("cards.js") + _asset("browse.js")
    # A page with its own thumbnails can load nothing, whatever its data contain.
    sources = "data:" if thumbnails is not None else "'self' data: file: http: https:"
    policy = (
        f"default-src 'none'; img-src {sources}; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    head = Template(_asset("sheet.html")).substitute(
        policy=escape(policy), title=escape(data.title), style=style
    )
    file.write(head.encode("utf-8", "backslashreplace"))
    content = {"title": data.title, "runs": data.runs, "chunk": CHUNK, "entries": data.entries}
    _write_json(file, 'id="data"', content)
    for chunk in _chunks(thumbnails or ()):
        _write_json(file, 'class="thumbnails"', chunk)
    file.write(f"<script>{script}</script>\n</body>\n</html>\n".encode())


def _run(entry: SheetEntry | None, parts: MarkedText) -> dict[str, Any] | None:
    """Return a text as parts: a string is in both texts, a list of one string in this one only."""
    if entry is None:
        return None
    texts = [[text] if is_different else text for text, is_different in parts]
    return _without_empty({"t": texts, "e": entry.error})


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value not in (None, "", {}, [])}


def _write_json(file: BinaryIO, attribute: str, value: Any) -> None:
    """Write data of a script element; no data can close the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    file.write(f'<script type="application/json" {attribute}>'.encode())
    file.write(text.encode("utf-8", "backslashreplace"))
    file.write(b"</script>\n")


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _hash(text: str) -> str:
    """Return the source of a content security policy that allows a text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
