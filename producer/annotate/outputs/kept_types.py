"""The types of columns in a Parquet file that is written anew: those of its other writers stay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import InvalidInput
from ...image_sources.arrow_values import column_values
from ...image_sources.extras import required
from ...image_sources.tables import has_bytes

Row = Mapping[str, Any]


def schema_of(path: str) -> Any:
    """Return the schema of a file; an empty one if it is not there, or no Parquet."""
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    try:
        return parquet.read_schema(path)
    except (OSError, arrow.ArrowException):
        return arrow.schema([])


def kept_types(
    known: Any, schema: Any, groups: Iterable[Sequence[Row]], names: Mapping[str, str]
) -> dict[str, Any]:
    """Return the types of the `known` schema that the new one lacks and that hold all values.

    `names` has the key in the rows of each column.
    """
    types = {
        field.name: field.type
        for field in known
        if schema.get_field_index(field.name) >= 0
        and field.type != schema.field(field.name).type
        and not has_bytes(field.type)
    }
    for group in groups if types else ():
        for name in list(types):
            if typed(types[name], [row.get(names[name]) for row in group]) is None:
                del types[name]
    return types


def typed(kind: Any, values: list[Any]) -> Any:
    """Return values as an array of a type; None if a reader would get other values."""
    arrow = required("pyarrow")
    # Times and decimal numbers are texts in the journal.
    for source in (kind, arrow.string()):
        try:
            array = arrow.array(values, type=source).cast(kind)
            if _json(column_values(array)) == _json(values):
                return array
        except (arrow.ArrowException, InvalidInput, TypeError, ValueError, OverflowError):
            continue
    return None


def _json(values: list[Any]) -> str:
    return json.dumps(values, default=str)
