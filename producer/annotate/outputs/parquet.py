"""Parquet files: a row for each image, with the images that no path names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

from ...errors import InvalidInput
from ...image_sources.extras import required
from ...image_sources.image_bytes import ImageBytes
from ...image_sources.picture import Locator, Picture
from ..storage.item import JournalItem
from ..storage.journal import Journal
from .kept_types import kept_types, schema_of, typed
from .remaining_images import check_images_remain
from .rows import text_of, utf8_of
from .tables import TableOutput

#: Rows of a row group; fewer if they have images, as Hugging Face's `datasets` writes them.
_GROUP_ROWS: Final = 10_000
_IMAGE_GROUP_ROWS: Final = 100
#: Locators of images within an archive or a table.
_EMBEDDED: Final = ("tar", "cell")
#: Schema metadata by which `datasets` knows the column of the image.
_FEATURES: Final = {
    "huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
}


class ParquetOutput(TableOutput):
    """A Parquet file; `image` has a path, or the bytes if the source is an archive or a table.

    With bytes, the column is Hugging Face's struct of `bytes` and `path`.
    """

    def __init__(self, path: str, text_column: str) -> None:
        super().__init__(path, "parquet", text_column, self._write)
        self._reader = ImageBytes()

    def name_of(self, picture: Picture) -> str:
        """Return the name in UTF-8, as the file has it."""
        return utf8_of(super().name_of(picture))

    def write_interim(self, journal: Journal) -> None:
        """Write the file, unless its images would be copied again each time."""
        first = next(journal.written(), None)
        if first is None or first.picture.locator.kind not in _EMBEDDED:
            self.write_all(journal)

    def write_all(self, journal: Journal) -> None:
        """Write the file; raises OutputFailed if that would lose an image."""
        check_images_remain(journal, self.path, _EMBEDDED)
        super().write_all(journal)

    def row_of(self, item: JournalItem) -> dict[str, Any]:
        """Return the row of an item; an image that no path names is its locator."""
        row = super().row_of(item)
        if item.picture.locator.kind in _EMBEDDED:
            row = {"file_name": row["file_name"], "image": item.picture.locator} | row
        return row

    def _write(self, file: IO[bytes], rows: Callable[[], Iterator[dict[str, Any]]]) -> None:
        arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
        kinds = _kinds(rows())
        has_images = "image" in kinds.values()
        size = _IMAGE_GROUP_ROWS if has_images else _GROUP_ROWS
        names = {utf8_of(name): name for name in kinds}
        new = arrow.schema([(utf8_of(name), _arrow_type(kind)) for name, kind in kinds.items()])
        known = schema_of(self.path)
        types = kept_types(known, new, _groups(rows(), size), names)
        schema = arrow.schema(
            [(field.name, types.get(field.name, field.type)) for field in new],
            metadata=_FEATURES if has_images else None,
        )
        if not has_images and schema.equals(known):
            # Those of `datasets` are of these columns; those of pandas, of the rows too.
            others = {k: v for k, v in (known.metadata or {}).items() if k != b"pandas"}
            # Empty metadata are other bytes than none.
            schema = schema.with_metadata(others) if others else schema
        with parquet.ParquetWriter(file, schema) as writer:
            for group in _groups(rows(), size):
                columns = {
                    name: typed(types[name], [row.get(key) for row in group])
                    if name in types
                    else [self._cell(row, key, kinds[key]) for row in group]
                    for name, key in names.items()
                }
                writer.write_table(arrow.table(columns, schema=schema))

    def _cell(self, row: dict[str, Any], name: str, kind: str | None) -> Any:
        value = row.get(name)
        if kind == "image":
            return self._image(value, row["file_name"])
        if value is None or kind in ("bool", "int", "float", "answers"):
            return value
        if kind == "texts":
            return [utf8_of(text) for text in value]
        return utf8_of(text_of(value))

    def _image(self, value: Locator | str | None, name: str) -> dict[str, Any]:
        """Return Hugging Face's struct of an image; without bytes, it is read from its path."""
        image: Any = value
        if isinstance(value, Locator):
            try:
                image = self._reader.read(value)
            except InvalidInput:
                # It had a caption before, and was not read.
                image = None
        if isinstance(image, bytes):
            return {"bytes": image, "path": utf8_of(name)}
        return {"bytes": None, "path": None if image is None else utf8_of(text_of(image))}


def _kinds(rows: Iterable[dict[str, Any]]) -> dict[str, str | None]:
    """Return the columns of all rows, in order, each with the kind of its values.

    Kinds: bool, int, float, text, texts, answers, image; mixed for any other; None: no values.
    """
    kinds: dict[str, str | None] = {"file_name": "text"}
    for row in rows:
        for name, value in row.items():
            kind, known = _kind_of(value), kinds.setdefault(name, None)
            if known is None or kind is None:
                kinds[name] = known or kind
            elif "image" in (known, kind):
                kinds[name] = "image"
            elif known != kind:
                kinds[name] = "mixed"
    return kinds


def _kind_of(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Locator):
        return "image"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "texts"
    if isinstance(value, list) and all(_is_answer(part) for part in value):
        return "answers"
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        # 64 bits do not hold it.
        return "mixed"
    return {bool: "bool", int: "int", float: "float", str: "text"}.get(type(value), "mixed")


def _is_answer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"question", "text"}
        and all(isinstance(part, str) for part in value.values())
    )


def _arrow_type(kind: str | None) -> Any:
    """Return the type of a column; mixed values are JSON."""
    arrow = required("pyarrow")
    text = arrow.string()
    types = {
        "bool": arrow.bool_(),
        "int": arrow.int64(),
        "float": arrow.float64(),
        "texts": arrow.list_(text),
        "answers": arrow.list_(arrow.struct([("question", text), ("text", text)])),
        "image": arrow.struct([("bytes", arrow.binary()), ("path", text)]),
    }
    return types.get(kind or "text", text)


def _groups(rows: Iterable[dict[str, Any]], count: int) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group
