"""Image files of a folder and its subfolders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

#: Suffixes that make a file of a folder or an archive an image.
IMAGE_SUFFIXES: Final = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"),
        *("heic", "heif", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "ico", "tga"),
    )
)


def is_image_name(name: str) -> bool:
    """Return whether a name has the suffix of an image format."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def file_stamp(path: str) -> str:
    """Return a text that changes if a file may have changed; empty if it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def image_files(root: str, prefix: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield path, name and error (None: no error) of each image below a folder, by name.

    Names are relative to the folder, after `prefix`. Each directory is read once, however many
    symbolic links lead to it, so a loop of links ends. Hidden files and folders are skipped. The
    error is that of a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    folders = [(root, prefix)]
    while folders:
        folder, relative = folders.pop()
        try:
            status = os.stat(folder)
            if (identity := (status.st_dev, status.st_ino)) in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as scan:
                entries = sorted(
                    (entry.name, _is_folder(entry)) for entry in scan if entry.name[0] != "."
                )
        except OSError as error:
            yield folder, relative or root, error.strerror or str(error)
            continue
        subfolders = []
        for name, is_folder in entries:
            path = os.path.join(folder, name)
            if is_folder:
                subfolders.append((path, f"{relative}{name}/"))
            elif is_image_name(name):
                yield path, relative + name, None
        folders += reversed(subfolders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A symbolic link to itself is a file that cannot be read.
        return False
