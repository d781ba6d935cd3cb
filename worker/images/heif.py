"""Header checks of AVIF and HEIC files: the sizes of all images that decoding would touch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from producer.contract import ErrorCode
from worker.errors import ItemRejected
from worker.images.av1 import check_av1
from worker.images.boxes import Box, Fields, HeifItem, Meta, MetaReader, damaged, read_boxes
from worker.images.limits import check_size, too_complex

#: Brands of files whose still image is AV1 or HEVC, and of their structure.
BRANDS: Final = frozenset(
    {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
)
#: Maximum brands of a file.
MAX_BRANDS: Final = 64
#: Maximum pixels of all tiles, as a multiple of those of an image: tiles exceed the image a little.
TILE_FACTOR: Final = 2
#: Maximum auxiliary images of an image or tile: transparency, depth and mattes; a phone has ten.
MAX_AUXILIARIES: Final = 64
#: Bytes per pixel of the planes of a frame, 16 bits each: of colours, and of transparency.
_COLOUR_BYTES: Final = 6
_ALPHA_BYTES: Final = 2
#: Bytes per pixel of the image as RGBA.
_RGBA_BYTES: Final = 4

_FORMATS: Final = {b"av01": "AVIF", b"hvc1": "HEIF"}


@dataclass(frozen=True, slots=True)
class Still:
    """The still image of a file: its format, and the bytes of the decoder's own buffers."""

    format: str
    decoder_bytes: int


def brands(data: bytes) -> frozenset[bytes]:
    """Return the brands that a file declares; none if it is not an ISO base media file."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * MAX_BRANDS, len(data))
    return frozenset({data[8:12], *(data[start : start + 4] for start in range(16, end - 3, 4))})


def check_heif(data: bytes, max_pixels: int) -> Still:
    """Check the primary image. Raises ItemRejected for a file that must not be opened."""
    metas = [box for box in _top_level(data) if box.kind == b"meta"]
    if len(metas) != 1:
        message = "the AVIF or HEIC file has no still image; save a frame of it as a PNG or JPEG"
        raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
    meta = MetaReader(data, metas[0]).read()
    return _Checker(data, meta, max_pixels).check()


def without_movie(data: bytes) -> bytes:
    """Return the file with its still image alone.

    The libraries otherwise read the tables of an image sequence, or prefer its first frame.
    """
    movies = [box for box in _top_level(data) if box.kind in (b"moov", b"mini")]
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * MAX_BRANDS, len(data))
    declared = data[8:end].replace(b"avis", b"avif").replace(b"msf1", b"mif1")
    if not movies and declared == data[8:end]:
        return data
    view = memoryview(data)
    parts: list[bytes | memoryview] = [data[:8], declared]
    for box in movies:
        parts += [view[end : box.offset + 4], b"free"]
        end = box.offset + 8
    return b"".join([*parts, view[end:]])


def _top_level(data: bytes) -> list[Box]:
    return list(read_boxes(data, 0, len(data), strict=False))


class _Checker:
    """The check of a primary image, its tiles, and its transparency."""

    def __init__(self, data: bytes, meta: Meta, max_pixels: int) -> None:
        self._data = data
        self._meta = meta
        self._max_pixels = max_pixels
        self._kinds: set[bytes] = set()
        #: Pixels and frames by item: an item may be several tiles, and part of several images.
        self._coded: dict[int, tuple[int, int]] = {}
        self._tile_pixels = 0
        self._decoder_bytes = 0

    def check(self) -> Still:
        """Return the format. Raises ItemRejected."""
        primary = self._meta.primary
        pixels = self._check_image(primary, _COLOUR_BYTES)
        if len(self._kinds) != 1:
            raise damaged("its tiles have several codecs")
        form = _FORMATS[self._kinds.pop()]
        for auxiliary in self._auxiliaries(primary):
            if self._item(auxiliary).kind in (b"grid", *_FORMATS):
                self._check_image(auxiliary, _ALPHA_BYTES)
        # The image as RGBA, and the file without its movie.
        return Still(form, self._decoder_bytes + pixels * _RGBA_BYTES + len(self._data))

    def _check_image(self, item_id: int, plane_bytes: int) -> int:
        """Check an image, and count the planes of its decoder and of its library."""
        item = self._item(item_id)
        if item.kind == b"grid":
            pixels = max(self._check_size(item), self._check_tiles(item_id, item))
            self._decoder_bytes += pixels * plane_bytes
        else:
            pixels, frames = self._check_coded(item_id)
            self._decoder_bytes += pixels * plane_bytes * (1 + frames)
        return pixels

    def _check_tiles(self, item_id: int, grid: HeifItem) -> int:
        """Check the tiles of a grid; return its pixels."""
        tiles = self._meta.targets(b"dimg", item_id)
        count, pixels = self._read_grid(grid)
        if len(tiles) != count:
            raise damaged("its grid has another number of tiles")
        for tile, times in Counter(tiles).items():
            for part in (tile, *self._auxiliaries(tile)):
                tile_pixels, frames = self._check_coded(part)
                self._decoder_bytes += tile_pixels * _COLOUR_BYTES * frames * times
                self._tile_pixels += tile_pixels * times
            if self._tile_pixels > TILE_FACTOR * self._max_pixels:
                raise too_complex("pixels in its tiles")
        return pixels

    def _auxiliaries(self, item_id: int) -> list[int]:
        auxiliaries = self._meta.sources(b"auxl", item_id)
        if len(auxiliaries) > MAX_AUXILIARIES:
            raise too_complex("auxiliary images")
        return auxiliaries

    def _item(self, item_id: int) -> HeifItem:
        if item_id not in self._meta.items:
            raise damaged("it has no primary image")
        return self._meta.items[item_id]

    def _check_coded(self, item_id: int) -> tuple[int, int]:
        """Check an image without tiles once; return its pixels and the number of its frames."""
        if item_id not in self._coded:
            self._coded[item_id] = self._read_coded(self._item(item_id))
        return self._coded[item_id]

    def _read_coded(self, item: HeifItem) -> tuple[int, int]:
        if not item.kind:
            raise damaged("an image has no codec")
        if item.kind not in _FORMATS:
            name = item.kind.decode("ascii", "replace")
            message = f"HEIF images of the kind {name!r} are not supported; save it as a PNG"
            raise ItemRejected(ErrorCode.IMAGE_INVALID, message)
        self._kinds.add(item.kind)
        pixels = self._check_size(item)
        # Libheif lets no HEVC stream exceed the declared size; libavif accepts more.
        frames = check_av1(self._bytes_of(item), *self._size(item)) if item.kind == b"av01" else 1
        return pixels, frames

    def _check_size(self, item: HeifItem) -> int:
        """Check the declared size of an item; return its pixels."""
        width, height = self._size(item)
        check_size(width, height, self._max_pixels)
        return width * height

    def _size(self, item: HeifItem) -> tuple[int, int]:
        sizes = [box for box in item.properties if box.kind == b"ispe"]
        if len(sizes) != 1:
            raise damaged("an image has no size, or several")
        fields = Fields(self._data, sizes[0])
        fields.version()
        return fields.number(4), fields.number(4)

    def _read_grid(self, item: HeifItem) -> tuple[int, int]:
        """Return the number of tiles and the pixels of a grid."""
        content = self._bytes_of(item)
        fields = Fields(content, Box(b"grid", 0, 0, len(content)))
        width = 4 if fields.number(2) & 1 else 2
        tiles = (fields.number(1) + 1) * (fields.number(1) + 1)
        size = fields.number(width), fields.number(width)
        check_size(*size, self._max_pixels)
        return tiles, size[0] * size[1]

    def _bytes_of(self, item: HeifItem) -> memoryview:
        view = memoryview(self._data)
        parts = [view[start : start + length] for start, length in item.extents]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
