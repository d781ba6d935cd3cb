"""Metadata of an image file that affects its pixels: the orientation, from EXIF data or XMP.

All other metadata is removed before Pillow opens a file: Pillow parses it, and rejects a picture
whose metadata is damaged or large.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from worker.images import tiff

_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file; empty where it has none."""

    exif: bytes = b""
    xmp: bytes = b""

    @cached_property
    def orientation(self) -> int:
        """The orientation, 1 to 8. As in Pillow, XMP counts only where EXIF data has none."""
        orientation = tiff.orientation(self.exif)
        if orientation is None:
            match = _XMP_ORIENTATION.search(self.xmp)
            orientation = int(match[1]) if match else 1
        return orientation if 1 <= orientation <= 8 else 1


class StrippedFile(NamedTuple):
    """A file without its metadata, and the metadata."""

    data: bytes
    metadata: Metadata = Metadata()


def metadata_of(info: Mapping[Any, Any]) -> Metadata:
    """Return the metadata that Pillow read."""
    xmp = info.get("xmp") or b""
    return Metadata(info.get("exif") or b"", xmp if isinstance(xmp, bytes) else b"")


def raw_profile(text: str) -> bytes:
    """Return the EXIF data of ImageMagick's text format; empty if it is damaged.

    Three lines precede the hexadecimal digits.
    """
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""
