"""Pillow images of AVIF and HEIC files: the primary image alone, decoded by one thread.

Both libraries also offer metadata, thumbnails and further images. These classes leave them
unread, and take the orientation from the boxes, which overrides that of the EXIF data.
"""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from typing import Any, Final

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ImageFile import ImageFile

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.heif import without_movie
from worker.images.tiff import ORIENTATION


def _library(name: str) -> Any:
    """Return a C library's module, or None if this installation lacks it."""
    with suppress(ImportError):
        return importlib.import_module(name)
    return None


#: The libraries themselves: their Python classes read all metadata of a file, unbounded.
_LIBAVIF: Final = _library("PIL._avif")
_LIBHEIF: Final = _library("_pillow_heif")
#: Threads of one decoding: a worker already decodes an image per core.
_THREADS: Final = 1


class _Avif(AvifImageFile):
    def _open(self) -> None:
        assert self.fp is not None
        self._decoder = _LIBAVIF.AvifDecoder(self.fp.read(), "auto", _THREADS)
        self._size, self.n_frames, self._mode, *_, orientation, _ = self._decoder.get_info()
        self.is_animated = self.n_frames > 1
        self.info["exif"] = _exif(orientation)
        self.seek(0)


class _Heif(ImageFile):
    format = "HEIF"
    _primary: Any = None

    def _open(self) -> None:
        assert self.fp is not None
        to_8_bits, bgr, packed, to_16_bits, unlimited = True, False, False, True, False
        images, _ = _LIBHEIF.load_file(
            self.fp.read(), _THREADS, to_8_bits, bgr, packed, to_16_bits, "", unlimited
        )
        self._primary = next(image for image in images if image is not None and image.primary)
        self._size, self._mode = self._primary.size_mode
        # Libheif has turned the image already.
        self.info["exif"] = _exif(1)

    def load(self) -> Any:
        if self._primary is not None:
            data = self._primary.data
            self._size, _ = self._primary.size_mode
            self.load_prepare()
            self.frombytes(data, "raw", (self.mode, self._primary.stride))
            self._primary = None
        return super().load()


def open_avif(file: io.BytesIO) -> ImageFile:
    """Open an AVIF file without decoding it. Raises ItemRejected if Pillow lacks the library."""
    if _LIBAVIF is None:
        raise _unsupported("AVIF", "a Pillow with AVIF")
    return _Avif(io.BytesIO(without_movie(file.getvalue())))


def open_heif(file: io.BytesIO) -> ImageFile:
    """Open a HEIC file without decoding it. Raises ItemRejected if pillow-heif is missing."""
    if _LIBHEIF is None:
        raise _unsupported("HEIC", "pillow-heif")
    return _Heif(io.BytesIO(without_movie(file.getvalue())))


def _unsupported(form: str, package: str) -> ItemRejected:
    message = f"this worker reads no {form}: install {package} there, or send a JPEG or PNG"
    return ItemRejected(ErrorCode.IMAGE_INVALID, message)


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()
