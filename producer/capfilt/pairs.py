"""Image-text pairs of a JSONL or CSV file, as a stream in bounded memory."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Final

from ..contract import ErrorCode, ErrorPayload, failure
from ..errors import InvalidInput
from ..jsonl import read_items

#: Returns the items of a stream: the fields of a pair, or an error.
PairReader = Callable[[BinaryIO], Iterator[dict[str, Any]]]

#: Labels in CSV, and in JSON beside true and false.
_LABELS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "right"), True),
    **dict.fromkeys(("0", "false", "no", "wrong"), False),
}


@dataclass(frozen=True, slots=True)
class ImageTextPair:
    """An image and its text, or the error of their line."""

    image: str
    text: str
    custom_id: str | None = None
    #: True if the text describes the image; None if that is not known.
    label: bool | None = None
    error: ErrorPayload | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive pairs that are submitted as a batch."""

    number: int
    pairs: list[ImageTextPair]
    #: Hash of all pairs up to the end of this part.
    digest: str


def read_pairs(stream: BinaryIO, *, is_csv: bool) -> Iterator[ImageTextPair]:
    """Yield the pairs of a file; an invalid line becomes a pair with an error.

    Raises InvalidInput if the file as a whole is invalid.
    """
    read: PairReader = _read_csv if is_csv else read_items
    return map(_pair_of, read(stream))


def divide(pairs: Iterable[ImageTextPair], part_pairs: int) -> Iterator[Part]:
    """Yield parts of `part_pairs` pairs; the last may have fewer."""
    stream, digest = iter(pairs), hashlib.sha256()
    for number in range(2**31):
        part = list(islice(stream, part_pairs))
        if not part:
            return
        for pair in part:
            identity = json.dumps([pair.image, pair.text, pair.label, pair.error])
            digest.update(identity.encode())
        yield Part(number, part, digest.hexdigest())


def _pair_of(item: Mapping[str, Any]) -> ImageTextPair:
    image, text = item.get("image"), item.get("text")
    custom_id = None if item.get("custom_id") is None else str(item["custom_id"])
    label, error = None, item.get("error")
    if error is None:
        try:
            label = _label_of(item.get("label"))
            _check_strings({"image": image, "text": text})
        except InvalidInput as problem:
            error = failure(ErrorCode.OPTION_INVALID, str(problem))["error"]
    image, text = (value if isinstance(value, str) else "" for value in (image, text))
    return ImageTextPair(image, text, custom_id, label, error)


def _check_strings(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            raise InvalidInput(f"{name}: missing")
        if not isinstance(value, str):
            raise InvalidInput(f"{name}: a string is needed, not {type(value).__name__}")
        if not value.strip():
            raise InvalidInput(f"{name}: empty")


def _label_of(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise InvalidInput(f"label={value!r:.100}: choose true or false")
    return label


def _read_csv(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV file with a header; paths may be in another encoding than UTF-8."""
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        missing = [name for name in ("image", "text") if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput(
                f"line 1: no column {' and '.join(missing)}; a header such as `image,text,label` "
                "is needed"
            )
        for number, row in enumerate(reader, start=1):
            named = {name: value for name, value in row.items() if isinstance(name, str)}
            yield {"custom_id": str(number), **named}
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num + 1}: not CSV: {error}") from None
    finally:
        # The caller closes its stream.
        text.detach()
