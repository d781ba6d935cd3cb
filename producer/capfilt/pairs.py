"""Image-text pairs of a collection, as a stream in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final

from ..contract import ErrorCode, ErrorPayload, failure
from ..errors import InvalidInput
from ..image_sources.arguments import pictures
from ..image_sources.options import SourceOptions
from ..image_sources.picture import Locator, Picture
from ..ledger.data_url import is_data_url
from .texts import texts_of

#: Labels in CSV, and in JSON beside true and false.
_LABELS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "right"), True),
    **dict.fromkeys(("0", "false", "no", "wrong"), False),
}


@dataclass(frozen=True, slots=True)
class ImageTextPair:
    """An image with its text, or several; or the error of their line."""

    #: Name of the image in its source, or its URL.
    image: str
    texts: Sequence[str]
    custom_id: str | None = None
    #: True if the texts describe the image; None if that is not known.
    label: bool | None = None
    error: ErrorPayload | None = None
    locator: Locator = field(default=Locator("url", ""), compare=False)
    #: Changes if the image may have changed; empty if that is not known.
    stamp: str = ""

    @property
    def identity(self) -> str:
        """A text that is the same in each run over the same collection."""
        return json.dumps([self.image, *self.texts, self.label, self.error, self.stamp])

    def reference_from(self, folder: str) -> str:
        """Return the image as a table in `folder` names it; absolute paths and URLs stay."""
        if self.locator.kind != "file" or os.path.isabs(self.image):
            return self.image
        return self.locator.reference_from(folder) or self.image


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive pairs that are submitted as a batch."""

    number: int
    pairs: list[ImageTextPair]
    #: Hash of all pairs up to the end of this part.
    digest: str


def read_pairs(
    sources: Sequence[str], options: SourceOptions, label_column: str = "label"
) -> Iterator[ImageTextPair]:
    """Yield the pairs of collections; one that cannot be read becomes a pair with an error.

    Raises InvalidInput if a source as a whole is invalid.
    """
    pair_of = partial(_pair_of, text_column=options.text_column, label_column=label_column)
    return map(pair_of, pictures(sources, options))


def divide(pairs: Iterable[ImageTextPair], part_pairs: int) -> Iterator[Part]:
    """Yield parts of `part_pairs` pairs; the last may have fewer."""
    stream, digest = iter(pairs), hashlib.sha256()
    for number in range(2**31):
        part = list(islice(stream, part_pairs))
        if not part:
            return
        for pair in part:
            digest.update(pair.identity.encode())
        yield Part(number, part, digest.hexdigest())


def _pair_of(picture: Picture, text_column: str | None, label_column: str) -> ImageTextPair:
    texts: Sequence[str] = ()
    label, error = None, None
    try:
        if picture.locator.kind == "error":
            raise InvalidInput(picture.locator.address, ErrorCode(picture.locator.extent[0]))
        texts = texts_of(picture, text_column)
        label = _label_of(picture.columns, label_column)
    except InvalidInput as problem:
        error = failure(ErrorCode(problem.code), str(problem))["error"]
    name, custom_id = _name_of(picture), picture.columns.get("custom_id")
    if custom_id is None:
        custom_id = picture.number
    return ImageTextPair(
        name,
        texts,
        None if custom_id is None else str(custom_id),
        label,
        error,
        picture.locator,
        picture.stamp,
    )


def _name_of(picture: Picture) -> str:
    """Return the name of an image: its URL, of any length, but not the data of a `data:` URL."""
    if picture.locator.kind == "url" and not is_data_url(picture.locator.address):
        return picture.locator.address
    return picture.name


def _label_of(columns: Mapping[str, Any], column: str) -> bool | None:
    value = columns.get(column)
    if value is None or value == "":
        return None
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise InvalidInput(
            f"{column}={value!r:.100}: choose true or false, or name the column of the labels with "
            "--label-column"
        )
    return label
