"""Hostile archives: cut between and within members, and compressed ones under another name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.errors import InvalidInput
from producer.image_sources.archives import tar_pictures
from producer.image_sources.image_bytes import ImageBytes

IMAGES = 4
#: Bytes of a member of 600 bytes: its header and two blocks.
MEMBER_BYTES = 3 * tarfile.BLOCKSIZE


def archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(IMAGES):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 600
            archive.addfile(member, io.BytesIO(b"x" * 600))
    return file.getvalue()


def read(path: Path, data: bytes) -> tuple[list[str], list[str]]:
    """Return the names of the images of an archive, and the errors."""
    path.write_bytes(data)
    pictures = list(tar_pictures(str(path)))
    errors = [picture.locator.address for picture in pictures if picture.locator.kind == "error"]
    return [picture.name for picture in pictures if picture.locator.kind == "tar"], errors


@pytest.mark.parametrize("count", range(1, IMAGES + 1))
def test_an_archive_cut_between_two_members_is_an_error(count: int, tmp_path: Path) -> None:
    names, errors = read(tmp_path / "in.tar", archive()[: count * MEMBER_BYTES])
    assert names == [f"{number}.png" for number in range(count)]
    (error,) = errors
    assert f"no end of the archive after {count * MEMBER_BYTES:,} bytes" in error


def test_an_archive_whose_end_is_a_single_block_is_whole(tmp_path: Path) -> None:
    end = IMAGES * MEMBER_BYTES + tarfile.BLOCKSIZE
    names, errors = read(tmp_path / "in.tar", archive()[:end])
    assert (len(names), errors) == (IMAGES, [])


@pytest.mark.parametrize("cut", [1, 100, 511])
def test_an_archive_cut_within_a_header_is_an_error(cut: int, tmp_path: Path) -> None:
    names, errors = read(tmp_path / "in.tar", archive()[: 2 * MEMBER_BYTES + cut])
    assert (len(names), len(errors)) == (2, 1)


def test_an_image_that_an_archive_has_in_part_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "in.tar").write_bytes(archive()[: 2 * MEMBER_BYTES - 600])
    first, last, error = tar_pictures(str(tmp_path / "in.tar"))
    assert ImageBytes().read(first.locator) == b"x" * 600
    with pytest.raises(InvalidInput, match="the archive ends within this image"):
        ImageBytes().read(last.locator)
    assert "unexpected end of data" in error.locator.address


@pytest.mark.parametrize("name", ["in.tar", "in.tar.gz", "in.tgz"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_archive_of_any_name_names_the_remedy(
    compress: Callable[[bytes], bytes], name: str, tmp_path: Path
) -> None:
    names, errors = read(tmp_path / name, compress(archive()))
    assert names == []
    (error,) = errors
    assert "a compressed archive must be unpacked" in error
