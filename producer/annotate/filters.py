"""Filters of a collection: conditions on name, format and size, and random samples."""

from __future__ import annotations

import fnmatch
import hashlib
import heapq
import io
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..contract import ErrorCode
from ..errors import InvalidInput
from ..image_sources.extras import required
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Picture

#: Fields that are known without the image.
_NAME_FIELDS: Final = ("name", "stem", "suffix", "folder")
#: Fields that need the header of the image.
_HEADER_FIELDS: Final = ("width", "height", "pixels", "side", "aspect", "format")
#: All fields of an image; other names are columns.
FIELDS: Final = (*_NAME_FIELDS, "bytes", *_HEADER_FIELDS)
#: Fields that are texts; those of them whose values are in lower case.
_TEXT_FIELDS: Final = (*_NAME_FIELDS, "format")
_LOWER_FIELDS: Final = ("suffix", "format")
#: Names of formats by their usual suffixes.
_FORMAT_NAMES: Final = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "heic": "heif"}
_CONDITION: Final = re.compile(r"\s*(\w+)\s*(<=|>=|!=|!~|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}


class PictureFilter:
    """Conditions that an image must all meet."""

    def __init__(
        self, conditions: Sequence[str], reader: ImageBytes, *, has_columns: bool = True
    ) -> None:
        """Parse the conditions; raises InvalidInput. Images of folders have no columns."""
        self._conditions = [_parse(condition) for condition in conditions]
        self._reader = reader
        self._needs_header = any(name in _HEADER_FIELDS for name, _ in self._conditions)
        self._needs_bytes = any(name == "bytes" for name, _ in self._conditions)
        #: Names of conditions that are columns, if no image so far has had them.
        self._absent = {name for name, _ in self._conditions} - set(FIELDS)
        if self._absent and not has_columns:
            raise InvalidInput(
                f"--where: images of a folder have no field {min(self._absent)!r}; fields: "
                + ", ".join(FIELDS)
            )
        self._was_called = False

    @property
    def absent_columns(self) -> list[str]:
        """Columns that conditions name and no image has had; empty before the first image."""
        return sorted(self._absent) if self._was_called else []

    def __call__(self, picture: Picture) -> bool:
        """Return whether an image meets the conditions; raises InvalidInput if it is unreadable."""
        if not self._conditions:
            return True
        self._was_called = True
        self._absent.difference_update(picture.columns)
        values: dict[str, Any] = {
            **picture.columns,
            "name": picture.name,
            "stem": picture.stem,
            "suffix": os.path.splitext(picture.name)[1].lower().lstrip("."),
            "folder": picture.name.rpartition("/")[0],
        }
        if not self._holds(values, _NAME_FIELDS):
            return False
        if self._needs_header or self._needs_bytes:
            image = self._reader.read(picture.locator)
            if isinstance(image, str):
                raise InvalidInput(
                    f"{picture.name}: --where by size needs a local image, not a URL"
                )
            values["bytes"] = len(image)
            if self._needs_header:
                values |= _header(picture.name, image)
        return self._holds(values, None)

    def _holds(self, values: dict[str, Any], names: Sequence[str] | None) -> bool:
        return all(
            test(values.get(name))
            for name, test in self._conditions
            if names is None or name in names
        )


def sample(pictures: Iterable[Picture], count: int, seed: int) -> Iterator[Picture]:
    """Yield `count` images in their order: those whose hash with the seed is smallest.

    A collection that grows changes the sample little. Memory is bounded by `count`.
    """

    def rank(entry: tuple[int, Picture]) -> bytes:
        return hashlib.sha256(f"{seed}\0{entry[1].key}".encode("utf-8", "surrogateescape")).digest()

    chosen = heapq.nsmallest(count, enumerate(pictures), key=rank)
    for _, picture in sorted(chosen, key=lambda entry: entry[0]):
        yield picture


def _parse(condition: str) -> tuple[str, Callable[[Any], bool]]:
    """Return the field and the test of a condition; raises InvalidInput."""
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise InvalidInput(
            f"--where {condition!r}: write FIELD OPERATOR VALUE, as width>=512, name=*.png or "
            "name~cat; fields: " + ", ".join(FIELDS)
        )
    name, sign, value = match.groups()
    _check_operator(condition, name, sign)
    if sign in ("~", "!~"):
        try:
            pattern = re.compile(value, re.IGNORECASE if name in _LOWER_FIELDS else 0)
        except re.error as error:
            raise InvalidInput(f"--where {condition!r}: {error}") from None
        return name, lambda text: (pattern.search(_text(text)) is not None) == (sign == "~")
    if name in FIELDS and name not in _TEXT_FIELDS:
        number = _number(condition, value)
        return name, lambda size: size is not None and _ORDERS[sign](size, number)
    if sign in ("=", "==", "!="):
        expected = _expected(name, value)
        return name, lambda text: fnmatch.fnmatchcase(_text(text), expected) == (sign != "!=")
    number = _number(condition, value)
    return name, lambda column: _is_number(column) and _ORDERS[sign](float(column), number)


def _expected(name: str, value: str) -> str:
    """Return the value of a condition as the field has it: `suffix=.JPG`, `format=jpg`."""
    if name not in _LOWER_FIELDS:
        return value
    expected = value.lower().lstrip(".")
    return _FORMAT_NAMES.get(expected, expected) if name == "format" else expected


def _check_operator(condition: str, name: str, sign: str) -> None:
    """Check that an operator compares values of this field; raises InvalidInput."""
    if name in _TEXT_FIELDS and sign[0] in "<>":
        raise InvalidInput(
            f"--where {condition!r}: {name} is a text: compare it with =, !=, ~ or !~"
        )
    if name in FIELDS and name not in _TEXT_FIELDS and "~" in sign:
        raise InvalidInput(
            f"--where {condition!r}: {name} is a number: compare it with <, <=, >, >=, = or !="
        )


def _number(condition: str, value: str) -> float:
    """Return the number of a condition; K, M and G multiply by powers of 1000."""
    factors = {"k": 1e3, "m": 1e6, "g": 1e9}
    digits, factor = (
        (value[:-1], factors[value[-1].lower()]) if value[-1:].lower() in factors else (value, 1)
    )
    try:
        number = float(digits) * factor
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"--where {condition!r}: {value!r} is not a finite number")
    return number


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _header(name: str, image: bytes) -> dict[str, Any]:
    """Return size and format from the header of an image; raises InvalidInput."""
    try:
        with required("PIL.Image").open(io.BytesIO(image)) as opened:
            width, height = opened.size
            kind = str(opened.format or "").lower()
    except InvalidInput:
        raise
    except Exception as error:
        # Pillow raises errors of many kinds for damaged files.
        message = f"{name}: --where cannot read its size: {error}"
        raise InvalidInput(message, ErrorCode.IMAGE_INVALID) from None
    return {
        "width": width,
        "height": height,
        "pixels": width * height,
        "side": min(width, height),
        "aspect": width / height if height else 0.0,
        "format": kind,
    }
