"""Images of a folder and its subfolders, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .picture import Picture, broken_picture, file_picture, is_image_name


def folder_pictures(root: str, prefix: str = "") -> Iterator[Picture]:
    """Yield the images below a folder, named relative to it, after `prefix`.

    Each directory is read once, however many symbolic links lead to it, so a loop of links ends.
    Hidden files and folders are skipped. A folder that cannot be read is a picture with an error.
    """
    for path, name, error in image_files(root, prefix):
        yield file_picture(path, name) if error is None else broken_picture(name, error)


def image_files(root: str, prefix: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield path, name and error (None: no error) of each image below a folder."""
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
            yield folder, relative or root, f"{folder}: {error.strerror}"
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
