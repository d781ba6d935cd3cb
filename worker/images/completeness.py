"""Completeness of pictures: a picture that its file does not fill wholly is rejected.

Pillow decodes such a picture without an error. The rest is black or, in some TIFFs, memory of an
earlier picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from worker.images.libtiff import check_filled
from worker.images.limits import incomplete

#: The compressions of which libtiff accepts a strip without its last rows.
_SHORT_STRIPS: Final = ("tiff_ccitt", "group3", "group4", "jpeg")
_PHOTOMETRIC: Final = 262
_YCBCR: Final = 6
_PLANES: Final = 284
#: Values of the last rows of a PNG before decoding, in the first and in a second attempt. They
#: differ at every bit depth.
_FILLS: Final = (0x5A, 0x00)
#: One of these rows is decoded last, with and without interlacing.
_LAST_ROWS: Final = 2


def load_completely(
    image: ImageFile.ImageFile, encoded: bytes, reopen: Callable[[], ImageFile.ImageFile]
) -> ImageFile.ImageFile:
    """Decode an image, and return it or another one that `reopen` returned.

    Raises ItemRejected if a part of the image has no pixels, and any error of Pillow.
    """
    if isinstance(image, TiffImageFile):
        _check_tiff(image, encoded)
    image.load()
    if isinstance(image, FilledPng) and image.may_beincomplete():
        image = _load_again(image, reopen())
    return image


class FilledPng(PngImageFile):
    """A PNG whose last rows have a known value before decoding."""

    fill = _FILLS[0]

    def load_prepare(self) -> None:
        """Fill the last rows."""
        super().load_prepare()
        if not ImageFile.LOAD_TRUNCATED_IMAGES:
            _fill(self, self.fill, self._first_row)

    def last_rows(self) -> list[bytes]:
        """Return the samples of the last rows."""
        return [
            self.crop((0, row, self.width, row + 1)).tobytes()
            for row in range(self._first_row, self.height)
        ]

    def may_beincomplete(self) -> bool:
        """Return whether a row still has its first value, which may also be its content."""
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            return False
        row = Image.new(self.mode, (self.width, 1))
        _fill(row, self.fill)
        # An interlaced image of one row may lack every second pixel.
        return self.height == 1 or row.tobytes() in self.last_rows()

    @property
    def _first_row(self) -> int:
        return max(0, self.height - _LAST_ROWS)


def _fill(image: Image.Image, value: int, first_row: int = 0) -> None:
    bands = len(image.getbands())
    ink = value if bands == 1 else (value,) * bands
    # Image.paste would decode the image first.
    image.im.paste(ink, (0, first_row, *image.size))


def _load_again(first: FilledPng, second: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Decode a PNG again, with other values before: pixels that no decoder filled differ."""
    rows = first.last_rows()
    first.close()
    assert isinstance(second, FilledPng)
    second.fill = _FILLS[1]
    second.load()
    if second.last_rows() != rows:
        raise incomplete("PNG")
    return second


def _check_tiff(image: TiffImageFile, encoded: bytes) -> None:
    compression = image.info["compression"]
    if compression == "raw":
        layers = len(image.getbands()) if image.tag_v2.get(_PLANES) == 2 else 1
        boxes = [tile.extents for tile in image.tile if tile.extents]
        filled = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
        if filled < image.width * image.height * layers and not ImageFile.LOAD_TRUNCATED_IMAGES:
            raise incomplete("TIFF")
    elif compression in _SHORT_STRIPS or image.tag_v2.get(_PHOTOMETRIC) == _YCBCR:
        # For YCbCr, Pillow ignores each error of libtiff.
        check_filled(encoded, max_bytes=image.width * image.height * 4 + (1 << 20))
