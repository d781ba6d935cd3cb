"""Images of object stores, listed and read by fsspec in this process."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from typing import Any

from ..errors import InvalidInput
from .caption_files import MAX_CAPTION_BYTES, caption_names, lines_of
from .extras import required
from .image_files import is_image_name
from .picture import Locator, Picture, broken_picture


def store_pictures(url: str, *, has_texts: bool = False) -> Iterator[Picture]:
    """Yield the images under a prefix of a store, of a pattern, or the object itself.

    With `has_texts`, the lines of the caption object beside an image are its column `texts`. Raises
    InvalidInput if the store cannot be listed.
    """
    protocol, _, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    if protocol.lower() != "memory" and (not bucket or _is_pattern(bucket)):
        raise InvalidInput(f"{url}: name a bucket, as {protocol}://bucket/folder")
    try:
        store, path = required("fsspec").core.url_to_fs(url)
        objects = _objects(store, path)
    except InvalidInput:
        raise
    except Exception as error:
        # Each store has errors of its own kinds.
        raise InvalidInput(f"{url}: {type(error).__name__}: {error}") from None
    captions = _caption_objects(store, path, objects) if has_texts else ()
    folder = path.rstrip("/") + "/"
    for object_path, details in sorted(objects.items()):
        if details.get("type") != "directory" and is_image_name(object_path):
            name = (
                object_path.removeprefix(folder) if object_path.startswith(folder) else object_path
            )
            full = f"{protocol}://{object_path.lstrip('/')}"
            columns: dict[str, Any] = {}
            if has_texts:
                try:
                    columns = _texts(store, object_path, captions)
                except Exception as error:
                    yield broken_picture(name, f"{full}: {type(error).__name__}: {error}")
                    continue
            yield Picture(full, name, Locator("store", full), _stamp(details), columns)


def _texts(store: Any, image: str, captions: Container[str]) -> dict[str, Any]:
    """Return the texts of the caption object beside an image, as a column."""
    for name in caption_names(image):
        if name in captions:
            lines = lines_of(store.cat_file(name, 0, MAX_CAPTION_BYTES))
            if lines:
                return {"texts": lines}
    return {}


def _caption_objects(store: Any, path: str, objects: Collection[str]) -> Container[str]:
    """Return the objects that may be captions; a pattern of images matches none of them."""
    if not _is_pattern(path):
        return objects
    return {name for pattern in caption_names(path) for name in store.glob(pattern)}


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _objects(store: Any, path: str) -> dict[str, dict[str, Any]]:
    if _is_pattern(path):
        return dict(store.glob(path, detail=True))
    return dict(store.find(path, detail=True))


def _stamp(details: dict[str, Any]) -> str:
    """Return the object's version: its ETag, or else size and time."""
    version = details.get("ETag") or details.get("etag") or details.get("md5Hash")
    changed = details.get("LastModified") or details.get("mtime") or details.get("last_modified")
    return f"{details.get('size')}:{version or changed}" if version or changed else ""
