"""Image files of a folder and its subfolders."""

from __future__ import annotations

import glob
import os
import re
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

    Names are relative to the folder, after `prefix`. The error is that of a folder that cannot be
    read. See `_folders`.
    """
    for folder, relative, names, error in _folders(root, prefix):
        if error is not None:
            yield folder, relative or root, error
        for name in filter(is_image_name, names):
            yield os.path.join(folder, name), relative + name, None


def matching_files(pattern: str) -> list[str]:
    """Return the files that a pattern matches, by name; a `**` reads each folder once."""
    return sorted(path for path in set(_matches(pattern)) if os.path.isfile(path))


def _matches(pattern: str) -> Iterator[str]:
    # Two `**` in a row are one.
    parts = re.sub(r"(?<![^/])\*\*(/\*\*)+(?![^/])", "**", pattern).split("/")
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    # The module glob follows links in loops.
    depth = parts.index("**")
    tail = "/".join(parts[depth + 1 :] or ["*"])
    # A root ends with a separator, or is empty: the working folder.
    for root in glob.iglob("/".join([*parts[:depth], ""])) if depth else [""]:
        for folder, _, _, _ in _folders(root):
            yield from _matches(os.path.join(glob.escape(folder), tail))


def _folders(root: str, prefix: str = "") -> Iterator[tuple[str, str, list[str], str | None]]:
    """Yield path, prefix of names, files and error of a folder and its subfolders, by name.

    Each directory is read once, however many symbolic links lead to it, so a loop of links ends.
    Hidden files and folders are skipped.
    """
    seen: set[tuple[int, int]] = set()
    folders = [(root, prefix)]
    while folders:
        folder, relative = folders.pop()
        try:
            status = os.stat(folder or os.curdir)
            if (identity := (status.st_dev, status.st_ino)) in seen:
                continue
            seen.add(identity)
            with os.scandir(folder or os.curdir) as scan:
                entries = sorted(
                    (entry.name, _is_folder(entry)) for entry in scan if entry.name[0] != "."
                )
        except OSError as error:
            yield folder, relative, [], error.strerror or str(error)
            continue
        yield folder, relative, [name for name, is_folder in entries if not is_folder], None
        folders += [
            (os.path.join(folder, name), f"{relative}{name}/")
            for name, is_folder in reversed(entries)
            if is_folder
        ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A symbolic link to itself is a file that cannot be read.
        return False
