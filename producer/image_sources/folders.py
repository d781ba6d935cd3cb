"""Images of a folder and its subfolders, in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator

from .image_files import image_files
from .picture import Picture, broken_picture, file_picture


def folder_pictures(root: str, prefix: str = "") -> Iterator[Picture]:
    """Yield the images below a folder; one that cannot be read is a picture with an error."""
    for path, name, error in image_files(root, prefix):
        if error is None:
            yield file_picture(path, name)
        else:
            yield broken_picture(name, f"{path}: {error}")
