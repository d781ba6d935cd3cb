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
    seen: set[tuple[int, int]] = set()
    folders = [(root, prefix)]
    while folders:
        folder, relative = folders.pop()
        try:
            status = os.stat(folder)
            if (identity := (status.st_dev, status.st_ino)) in seen:
                continue
            seen.add(identity)
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            yield broken_picture(relative or root, f"{folder}: {error.strerror}")
            continue
        subfolders = []
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                subfolders.append((path, f"{relative}{name}/"))
            elif is_image_name(name):
                yield file_picture(path, relative + name)
        folders += reversed(subfolders)
