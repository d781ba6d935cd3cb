"""PNG and TIFF files with given samples, of kinds that Pillow does not save."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from numpy.typing import NDArray

from tests.hostile.specimen import chunk, ihdr, png

#: PNG colour types by the number of their bands.
COLOUR_TYPES: Final = {2: 4, 3: 2, 4: 6}


def png_of(samples: NDArray[Any], *chunks: bytes) -> bytes:
    """Return a PNG with these samples of 8 or 16 bits."""
    height, width, bands = samples.shape
    deep = samples.dtype.itemsize == 2
    rows = samples.astype(">u2" if deep else "u1").reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = ihdr(width, height, 16 if deep else 8, COLOUR_TYPES[bands])
    return png(header, *chunks, chunk(b"IDAT", data))


def tiff_of(samples: NDArray[Any], compression: str, order: str) -> bytes:
    """Return a TIFF with these 16-bit samples of 3 or 4 bands."""
    endian = "<" if order == "II" else ">"
    height, width, bands = samples.shape
    data = samples.astype(endian + "u2").tobytes()
    data = zlib.compress(data) if compression == "deflate" else data
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, 0), (259, 3, 1, 8)),
        *((262, 3, 1, 2), (273, 4, 1, 0), (277, 3, 1, bands), (278, 4, 1, height)),
        *((279, 4, 1, len(data)), (338, 3, 1, 2)),
    ]
    tags = [tag for tag in tags if bands == 4 or tag[0] != 338]
    start = 8 + 2 + 12 * len(tags) + 4
    values = {258: start, 273: start + 8, 259: 8 if compression == "deflate" else 1}
    directory = b""
    for tag, kind, count, value in tags:
        number = values.get(tag, value)
        short = kind == 3 and count == 1
        packed = struct.pack(
            endian + ("HH" if short else "L"), *(number, 0) if short else (number,)
        )
        directory += struct.pack(endian + "HHL", tag, kind, count) + packed
    header = order.encode() + struct.pack(endian + "HLH", 42, 8, len(tags))
    depths = struct.pack(endian + "4H", 16, 16, 16, 16)
    return header + directory + bytes(4) + depths + data
