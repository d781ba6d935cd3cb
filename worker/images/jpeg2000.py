"""Header checks of JPEG 2000 files: sizes, tiles, and the tables that OpenJPEG builds of them.

A codestream of a hundred bytes can declare millions of precincts and code blocks (ISO 15444-1,
annex A and B). OpenJPEG allocates them before it decodes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.boxes import damaged, read_boxes
from worker.images.limits import check_size, too_complex

CODESTREAM: Final = b"\xff\x4f\xff\x51"
SIGNATURE: Final = b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a"

MAX_COMPONENTS: Final = 4
#: Maximum tiles of an image, parts of tiles, and markers of a file.
MAX_TILES: Final = 4096
MAX_TILE_PARTS: Final = 1 << 14
MAX_MARKERS: Final = 1 << 16
#: Maximum precincts and code blocks of a tile: 64 million pixels usually have 4,000 and 50,000.
MAX_PRECINCTS: Final = 1 << 16
MAX_BLOCKS: Final = 1 << 18
#: Maximum entries of the table of packets: layers, resolutions, components and precincts.
MAX_PACKETS: Final = 1 << 24
#: Maximum packets of all tiles: each takes at least one byte of the file.
MAX_ALL_PACKETS: Final = 1 << 26
#: Maximum bytes of the boxes that describe the image.
MAX_HEADER_BYTES: Final = 1 << 20
#: Bytes that OpenJPEG allocates for each of these.
_TILE_BYTES: Final = 12 << 10
_PRECINCT_BYTES: Final = 1200
_BLOCK_BYTES: Final = 1024
_PACKET_BYTES: Final = 2

_SIZ, _COD, _COC = 0xFF51, 0xFF52, 0xFF53
_SOT, _SOD, _EOC = 0xFF90, 0xFF93, 0xFFD9
#: Changes of the progression order, and packet headers outside of their packets.
_RARE: Final = {0xFF5F: "POC", 0xFF60: "PPM", 0xFF61: "PPT"}


class _Marker(NamedTuple):
    code: int
    #: The bytes behind its length.
    body: bytes


@dataclass(frozen=True, slots=True)
class _Size:
    """The fields of the SIZ marker."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    tiles: int
    components: int
    sample_bytes: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel: the decoder's 32-bit samples, and those that Pillow reads."""
        return self.components * (4 + self.sample_bytes)


class _Coding(NamedTuple):
    """The fields of a COD or COC marker: the options of all components, or of one."""

    #: 0 in a COC: the layers of the COD apply to all components.
    layers: int
    levels: int
    #: Exponents of the sides of a code block.
    block_width: int
    block_height: int
    #: Exponents of the sides of a precinct, by resolution; empty if a tile is not divided.
    exponents: bytes


def is_jpeg2000(data: bytes) -> bool:
    """Return whether a file is a codestream, or one in boxes (JP2)."""
    return data.startswith((CODESTREAM, SIGNATURE))


def check_jpeg2000(data: bytes, max_pixels: int) -> int:
    """Return the bytes of the decoder's own buffers.

    Raises ItemRejected for a file that must not be opened.
    """
    start = 0 if data.startswith(CODESTREAM) else _check_boxes(data, max_pixels)
    if not data.startswith(CODESTREAM, start):
        raise damaged("it has no JPEG 2000 codestream")
    size = None
    codings: list[_Coding] = []
    tiles: set[bytes] = set()
    for index, marker in enumerate(_markers(data, start + 2)):
        if index >= MAX_MARKERS:
            raise too_complex("markers")
        if marker.code == _SIZ and size is None:
            size = _read_size(marker.body, max_pixels)
        elif size is None or marker.code == _SIZ or marker.code in _RARE:
            raise _unsupported(_RARE.get(marker.code, "SIZ"))
        elif marker.code in (_COD, _COC):
            codings.append(_read_coding(marker))
        elif marker.code == _SOT:
            tiles.add(marker.body[:2])
    if size is None or len(tiles) < size.tiles:
        # The decoder would leave the others black.
        raise damaged("it lacks tiles")
    tile_bytes = size.tile_width * size.tile_height * size.pixel_bytes
    return tile_bytes + _check_tables(codings, size) + size.tiles * _TILE_BYTES + len(data)


def _check_boxes(data: bytes, max_pixels: int) -> int:
    """Return the offset of the codestream."""
    for box in read_boxes(data, 0, len(data)):
        if box.kind == b"jp2c":
            return box.start
        if box.kind == b"jp2h" and box.end - box.start > MAX_HEADER_BYTES:
            raise too_complex("bytes in its header")
        if box.kind == b"jp2h":
            for inner in read_boxes(data, box.start, box.end):
                if inner.kind == b"ihdr" and inner.end - inner.start >= 8:
                    height, width = struct.unpack_from(">II", data, inner.start)
                    check_size(width, height, max_pixels)
    raise damaged("it has no JPEG 2000 codestream")


def _markers(data: bytes, position: int) -> Iterator[_Marker]:
    """Yield the markers of the main header and of each part of a tile."""
    tile_parts = part_end = 0
    in_tile = False
    while position + 2 <= len(data):
        code = int.from_bytes(data[position : position + 2], "big")
        if code == _SOD and in_tile:
            # The packets: the next part follows them.
            position, in_tile = part_end, False
            continue
        if code == _EOC and tile_parts and not in_tile:
            return
        if code == _SOT and not in_tile:
            tile_parts += 1
            if tile_parts > MAX_TILE_PARTS:
                raise too_complex("parts of tiles")
            length = int.from_bytes(data[position + 6 : position + 10], "big")
            part_end = position + length if length else len(data)
            in_tile = True
        elif not 0xFF50 <= code < 0xFF80 or (tile_parts and not in_tile):
            raise damaged("its JPEG 2000 markers are in the wrong order")
        elif in_tile and code in (_COD, _COC):
            raise _unsupported("COD of a tile")
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        if size < 2 or position + 2 + size > len(data):
            raise damaged("it is truncated")
        yield _Marker(code, data[position + 4 : position + 2 + size])
        position += 2 + size
        if in_tile and position > part_end:
            raise damaged("a tile has fewer bytes than its header")


def _read_size(body: bytes, max_pixels: int) -> _Size:
    if len(body) < 36:
        raise damaged("its size is incomplete")
    _, right, bottom, x, y, tile_width, tile_height, tile_x, tile_y, components = (
        struct.unpack_from(">HIIIIIIIIH", body)
    )
    width, height = right - x, bottom - y
    if width <= 0 or height <= 0 or tile_x > x or tile_y > y:
        raise damaged("its size is not positive")
    check_size(width, height, max_pixels)
    if not tile_width or not tile_height:
        raise damaged("its tiles are empty")
    if not 0 < components <= MAX_COMPONENTS:
        raise _unsupported(f"{components} components")
    tiles = -(-(right - tile_x) // tile_width) * -(-(bottom - tile_y) // tile_height)
    if tiles > MAX_TILES:
        raise too_complex("tiles")
    bits = max((depth & 127 for depth in body[36 : 36 + 3 * components : 3]), default=7) + 1
    return _Size(
        width,
        height,
        min(width, tile_width),
        min(height, tile_height),
        tiles,
        components,
        1 if bits <= 8 else 2 if bits <= 16 else 4,
    )


def _read_coding(marker: _Marker) -> _Coding:
    """Return the fields of a COD or COC marker. Raises ItemRejected if some are missing."""
    is_default = marker.code == _COD
    body = marker.body.ljust(12, b"\0")
    layers = int.from_bytes(body[2:4], "big") if is_default else 0
    has_precincts = body[0 if is_default else 1] & 1
    start = 5 if is_default else 2
    levels, block_width, block_height = body[start], body[start + 1] + 2, body[start + 2] + 2
    exponents = body[start + 5 :] if has_precincts else b""
    if levels > 32 or (has_precincts and len(exponents) < levels + 1):
        raise damaged("its resolutions are incomplete")
    return _Coding(layers, levels, block_width, block_height, exponents)


def _check_tables(codings: list[_Coding], size: _Size) -> int:
    """Return the bytes of the tables of a tile. Raises ItemRejected if they are too large.

    OpenJPEG sizes the table of packets by the maxima over all components.
    """
    if len(codings) > 1 + size.components:
        raise too_complex("coding options")
    counts = [_count_parts(coding, size) for coding in codings]
    precincts = max((count[0] for count in counts), default=0) * size.components
    blocks = max((count[1] for count in counts), default=0) * size.components
    widest = max((count[2] for count in counts), default=0)
    layers = max((coding.layers for coding in codings), default=0)
    resolutions = max((coding.levels + 1 for coding in codings), default=0)
    packets = (layers + 1) * resolutions * size.components * widest
    if precincts > MAX_PRECINCTS or blocks > MAX_BLOCKS or packets > MAX_PACKETS:
        raise too_complex("precincts or code blocks")
    if packets * size.tiles > MAX_ALL_PACKETS:
        raise too_complex("packets in its tiles")
    return precincts * _PRECINCT_BYTES + blocks * _BLOCK_BYTES + packets * _PACKET_BYTES


def _count_parts(coding: _Coding, size: _Size) -> tuple[int, int, int]:
    """Return precincts and blocks of a component in a tile, and the precincts of a resolution."""
    precincts = blocks = widest = 0
    for resolution in range(coding.levels + 1):
        scale = 1 << coding.levels - resolution
        width, height = size.tile_width // scale + 2, size.tile_height // scale + 2
        exponent = coding.exponents[resolution] if coding.exponents else 0xFF
        across, down = exponent & 15, exponent >> 4
        count = (width // (1 << across) + 2) * (height // (1 << down) + 2)
        # Above the lowest resolution, a precinct of a band has half the side.
        halved = resolution > 0
        side = 1 << max(0, min(coding.block_width, across - halved))
        rise = 1 << max(0, min(coding.block_height, down - halved))
        blocks += count + 3 * (width // (side << halved) + 2) * (height // (rise << halved) + 2)
        precincts += count
        widest = max(widest, count)
    return precincts, blocks, widest


def _unsupported(feature: str) -> ItemRejected:
    message = f"a JPEG 2000 with {feature} is not supported; save it as a PNG or JPEG"
    return ItemRejected(ErrorCode.IMAGE_INVALID, message)
