"""The directory of a TIFF: checked values stay, and its number of entries is limited."""

from __future__ import annotations

import struct

import pytest

from tests.hostile.specimen import encoded, picture, tiff
from worker.errors import ItemRejected
from worker.images import tiff as tiff_module
from worker.images.decoder import Decoder
from worker.images.tiff import MAX_ENTRIES, _Directory, orientation, strip_tiff

DECODER = Decoder(32, 3, max_pixels=4_000_000)
#: Uncompressed, 9 x 9 pixels of 8 bits, and entries that are removed.
SIZE = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 1)]
STRIP = [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 9), (279, 4, 1, 81)]
REMOVED = [(1000 + number, 3, 1, 1) for number in range(4)]


def values(data: bytes) -> dict[int, int]:
    directory = _Directory(data)
    return {entry.tag: directory.integer(entry) for entry in directory.entries()}


def big_tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    head = b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, len(entries))
    return head + b"".join(struct.pack("<HHQQ", *entry) for entry in entries) + bytes(8)


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 277, 278, 322, 323])
def test_no_value_changes_between_its_check_and_its_use(tag: int) -> None:
    rejected = 0
    others = [entry for entry in SIZE + STRIP if entry[0] != tag]
    for offset in range(4, 240):
        # Three numbers, so that they are not in the entry itself.
        data = tiff([*REMOVED, (tag, 3, 3, offset), *others], b"\1\0" * 200)
        try:
            stripped = strip_tiff(data, 4_000_000).data
        except ItemRejected:
            rejected += 1
            continue
        pixel_values = {key: value for key, value in values(data).items() if key < 1000}
        assert values(stripped) == pixel_values
    assert 0 < rejected < 236


@pytest.mark.parametrize(
    ("prefix", "form", "size"), [(b"II\x2a\0", "<I", 8), (b"II\x2b\0", "<Q", 16)]
)
def test_a_directory_in_the_header_is_rejected(prefix: bytes, form: str, size: int) -> None:
    for start in range(size):
        header = prefix.ljust(size - struct.calcsize(form), b"\0") + struct.pack(form, start)
        with pytest.raises(ItemRejected, match="its directory overlaps"):
            strip_tiff(header + bytes(4000), 4_000_000)


def test_a_value_in_the_directory_rejects_the_file() -> None:
    # The first entry has the value 1, uncompressed; that of the next, LZMA, takes its place.
    width = (256, 4, 1, 34925)
    data = tiff([*REMOVED, width, *SIZE[1:], (259, 3, 3, 18), *STRIP], bytes(400))
    with pytest.raises(ItemRejected, match="its directory overlaps"):
        DECODER.decode(data)


@pytest.mark.parametrize(("before", "expected"), [(MAX_ENTRIES - 1, 6), (MAX_ENTRIES, None)])
def test_an_orientation_is_searched_in_a_limited_number_of_entries(
    before: int, expected: int | None
) -> None:
    exif = big_tiff([(1000, 3, 1, 1)] * before + [(274, 3, 1, 6)])
    assert orientation(exif) == expected


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_is_read_once(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    reads: list[int] = []

    def counted(exif: bytes) -> int | None:
        reads.append(len(exif))
        return orientation(exif)

    monkeypatch.setattr(tiff_module, "orientation", counted)
    DECODER.decode(encoded(picture(), form, exif=b"Exif\0\0" + tiff([(274, 3, 1, 1)])))
    assert len(reads) == 1
