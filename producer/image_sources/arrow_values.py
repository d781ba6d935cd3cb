"""Values of Arrow columns as Python has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InvalidInput
from .extras import required


def batch_rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch of records."""
    names = batch.schema.names
    columns = [column_values(batch.column(number)) for number in range(len(names))]
    for number in range(batch.num_rows):
        yield {name: column[number] for name, column in zip(names, columns, strict=True)}


def column_values(array: Any) -> list[Any]:
    """Return the values of an array; times that Python does not have are texts or numbers.

    Python's times have microseconds and years up to 9999; pandas, which may be absent, has more.
    """
    try:
        return list(array.to_pylist())
    except (ValueError, OverflowError, LookupError):
        arrow = required("pyarrow")
        is_date = arrow.types.is_timestamp(array.type) or arrow.types.is_date(array.type)
        try:
            return list(array.cast(arrow.string() if is_date else arrow.int64()).to_pylist())
        except arrow.ArrowException:
            message = f"a column of type {array.type} has values beyond microseconds or year 9999"
            raise InvalidInput(f"{message}: cast it to text") from None
