"""libtiff, called directly: a check that a TIFF fills its strips and tiles wholly.

libtiff accepts a compressed strip that holds fewer rows than the directory declares, and leaves the
rest of the buffer as it was. Pillow does not clear that buffer, so the picture would show memory of
an earlier one. This check decodes each strip into two buffers that differ in each bit: a byte that
libtiff does not write differs afterwards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_int,
    c_ssize_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Final

from PIL import _imaging

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.limits import incomplete

#: The contents of the two buffers.
_FILLS: Final = (b"\x00", b"\xff")
#: The mode of Pillow: for reading, without virtual strips.
_MODE: Final = b"rC"

_TRANSFER: Final = CFUNCTYPE(c_ssize_t, c_void_p, c_void_p, c_ssize_t)
_SEEK: Final = CFUNCTYPE(c_uint64, c_void_p, c_uint64, c_int)
_CLOSE: Final = CFUNCTYPE(c_int, c_void_p)
_SIZE: Final = CFUNCTYPE(c_uint64, c_void_p)
_MAP: Final = CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), POINTER(c_uint64))
_UNMAP: Final = CFUNCTYPE(None, c_void_p, c_void_p, c_uint64)

#: The functions that are called: their results and arguments (tiffio.h).
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "TIFFSetErrorHandler": (c_void_p, c_void_p),
    "TIFFSetWarningHandler": (c_void_p, c_void_p),
    "TIFFClientOpen": (
        *(c_void_p, c_char_p, c_char_p, c_void_p),
        *(_TRANSFER, _TRANSFER, _SEEK, _CLOSE, _SIZE, _MAP, _UNMAP),
    ),
    "TIFFClose": (None, c_void_p),
    "TIFFIsTiled": (c_int, c_void_p),
    "TIFFNumberOfStrips": (c_uint32, c_void_p),
    "TIFFNumberOfTiles": (c_uint32, c_void_p),
    "TIFFStripSize": (c_ssize_t, c_void_p),
    "TIFFTileSize": (c_ssize_t, c_void_p),
    "TIFFReadEncodedStrip": (c_ssize_t, c_void_p, c_uint32, c_void_p, c_ssize_t),
    "TIFFReadEncodedTile": (c_ssize_t, c_void_p, c_uint32, c_void_p, c_ssize_t),
}


def check_filled(data: bytes, max_bytes: int) -> None:
    """Raise ItemRejected unless each strip or tile of the first picture is filled wholly.

    `max_bytes` limits a strip; each of the two buffers has the size of one.
    """
    if _library is None:
        message = "this kind of TIFF cannot be checked on this worker; use LZW or Deflate"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    with _opened(_library, data) as tiff:
        part = "Tile" if _library.TIFFIsTiled(tiff) else "Strip"
        count = getattr(_library, f"TIFFNumberOf{part}s")(tiff)
        size = getattr(_library, f"TIFF{part}Size")(tiff)
        read = getattr(_library, f"TIFFReadEncoded{part}")
        if not 0 < size <= max_bytes:
            raise incomplete("TIFF")
        buffers = [ctypes.create_string_buffer(size) for _ in _FILLS]
        views = [memoryview(buffer) for buffer in buffers]
        for index in range(count):
            for fill, buffer in zip(_FILLS, buffers, strict=True):
                ctypes.memset(buffer, fill[0], size)
                filled = read(tiff, index, buffer, size)
            if filled < 0 or views[0][:filled] != views[1][:filled]:
                raise incomplete("TIFF")


@contextmanager
def _opened(library: ctypes.CDLL, data: bytes) -> Iterator[int]:
    """Open a TIFF in memory for a `with` block."""
    position = 0

    def read(_: int, buffer: int, size: int) -> int:
        nonlocal position
        part = data[position : position + size]
        ctypes.memmove(buffer, part, len(part))
        position += len(part)
        return len(part)

    def seek(_: int, offset: int, whence: int) -> int:
        nonlocal position
        position = offset + {1: position, 2: len(data)}.get(whence, 0)
        return position

    def map_file(_: int, base: Any, size: Any) -> int:
        base[0], size[0] = ctypes.cast(c_char_p(data), c_void_p).value, len(data)
        return 1

    # libtiff calls these as long as the file is open.
    callbacks = (
        _TRANSFER(read),
        _TRANSFER(lambda *_: 0),
        _SEEK(seek),
        _CLOSE(lambda _: 0),
        _SIZE(lambda _: len(data)),
        _MAP(map_file),
        _UNMAP(lambda *_: None),
    )
    tiff = library.TIFFClientOpen(b"picture", _MODE, None, *callbacks)
    if not tiff:
        raise incomplete("TIFF")
    try:
        yield tiff
    finally:
        library.TIFFClose(tiff)


def _load() -> ctypes.CDLL | None:
    """Return the libtiff of Pillow, without log output; None if it cannot be called."""
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name, (result, *arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    # libtiff writes to stderr, and Pillow has no option to prevent that.
    library.TIFFSetErrorHandler(None)
    library.TIFFSetWarningHandler(None)
    return library


_library: Final = _load()
