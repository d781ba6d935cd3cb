"""Images of tar archives, as WebDataset writes them: members of one sample share a key."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any, Final

from .image_files import file_stamp, is_image_name
from .picture import Locator, Picture, broken_picture

#: Maximum bytes of a text member: a longer one is no caption.
MAX_TEXT_BYTES: Final = 1 << 20
#: First bytes of gzip, bzip2, xz and Zstandard files.
_COMPRESSED: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


def tar_pictures(path: str) -> Iterator[Picture]:
    """Yield the images of an uncompressed archive; their JSON and text members are columns.

    The key of a sample is the path of its members up to the first dot of the file name.
    """
    absolute = os.path.abspath(path)
    stamp = file_stamp(absolute)
    sample = _Sample(absolute, stamp)
    try:
        with tarfile.open(absolute, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                key, _, suffix = _split(member.name)
                if key != sample.key:
                    yield from sample.pictures()
                    sample = _Sample(absolute, stamp, key)
                sample.add(archive, member, suffix)
                # The archive lists its members for random access, which nobody needs here.
                archive.members = []  # type: ignore[attr-defined]
            _check_end(absolute, archive.offset)
    except (OSError, tarfile.TarError) as error:
        yield from sample.pictures()
        remedy = "; a compressed archive must be unpacked (tar)" if _is_compressed(path) else ""
        reason = getattr(error, "strerror", None) or error
        yield broken_picture(path, f"{path}: {reason}{remedy}")
    else:
        yield from sample.pictures()


class _Sample:
    """The members of an archive with one key."""

    def __init__(self, archive: str, stamp: str, key: str | None = None) -> None:
        self.key = key
        self._archive = archive
        self._stamp = stamp
        self._images: list[tuple[str, Locator]] = []
        self._columns: dict[str, Any] = {}
        self._caption: str | None = None

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
        """Add a member."""
        if is_image_name(member.name):
            locator = Locator("tar", self._archive, (member.offset_data, member.size))
            self._images.append((member.name, locator))
        elif suffix in ("txt", "caption", "json") and member.size <= MAX_TEXT_BYTES:
            file = archive.extractfile(member)
            text = file.read().decode("utf-8", "replace") if file else ""
            if suffix != "json":
                self._caption = text.strip()
                return
            try:
                columns = json.loads(text)
            except ValueError:
                columns = None
            if isinstance(columns, dict):
                self._columns |= columns

    def pictures(self) -> Iterator[Picture]:
        """Yield the images of the sample."""
        for name, locator in self._images:
            key = f"{self._archive}\0{name}"
            yield Picture(key, name, locator, self._stamp, self._columns, self._caption)


def _split(name: str) -> tuple[str, str, str]:
    folder, slash, file_name = name.rpartition("/")
    stem, dot, suffix = file_name.partition(".")
    return folder + slash + stem, dot, suffix.lower()


def _check_end(path: str, offset: int) -> None:
    """Raise tarfile.ReadError if the archive does not end here.

    tarfile ignores damaged headers, and an archive that was cut between two members.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.ReadError(
            f"no end of the archive after {offset:,} bytes; members may be missing"
        )
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"damaged after {offset:,} bytes; the rest is not read")


def _is_compressed(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(6).startswith(_COMPRESSED)
    except OSError:
        return False
