"""Images of object stores, listed and read by fsspec in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InvalidInput
from ..image_files import is_image_name
from .extras import required
from .picture import Locator, Picture


def store_pictures(url: str) -> Iterator[Picture]:
    """Yield the images under a prefix of a store, of a pattern, or the object itself.

    Raises InvalidInput if the store cannot be listed.
    """
    protocol = url.partition("://")[0]
    try:
        store, path = required("fsspec").core.url_to_fs(url)
        objects = _objects(store, path)
    except InvalidInput:
        raise
    except Exception as error:
        # Each store has errors of its own kinds.
        raise InvalidInput(f"{url}: {type(error).__name__}: {error}") from None
    folder = path.rstrip("/") + "/"
    for object_path, details in sorted(objects.items()):
        if details.get("type") != "directory" and is_image_name(object_path):
            name = (
                object_path.removeprefix(folder) if object_path.startswith(folder) else object_path
            )
            full = f"{protocol}://{object_path.lstrip('/')}"
            yield Picture(full, name, Locator("store", full), _stamp(details))


def _objects(store: Any, path: str) -> dict[str, dict[str, Any]]:
    if any(character in path for character in "*?["):
        return dict(store.glob(path, detail=True))
    return dict(store.find(path, detail=True))


def _stamp(details: dict[str, Any]) -> str:
    """Return the object's version: its ETag, or else size and time."""
    version = details.get("ETag") or details.get("etag") or details.get("md5Hash")
    changed = details.get("LastModified") or details.get("mtime") or details.get("last_modified")
    return f"{details.get('size')}:{version or changed}" if version or changed else ""
