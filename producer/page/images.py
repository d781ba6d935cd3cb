"""The image of a request: an uploaded file, or a URL that the worker fetches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ..contract import MAX_BLOB_BYTES
from ..errors import InvalidInput
from ..ledger.blobs import ImageSource

_HTTPS: Final = re.compile(r"https://[^\s/]+\S*", re.IGNORECASE)


def image_source(upload: Any, url: str | None) -> ImageSource:
    """Return the URL if there is one, otherwise the upload's bytes; raises InvalidInput."""
    if url and url.strip():
        return parse_url(url)
    if not upload:
        raise InvalidInput("Choose an image or enter its URL first")
    return read_upload(path_of(upload))


def image_key(upload: Any, url: str | None) -> str:
    """Return a key that is equal for equal images: the URL if there is one, otherwise the path."""
    return (url or "").strip() or str(path_of(upload) if upload else "")


def parse_url(url: str) -> str:
    """Check the URL of an image, which only the worker fetches (SSRF); raises InvalidInput."""
    url = url.strip()
    if not _HTTPS.fullmatch(url):
        raise InvalidInput("The URL of an image must begin with https://")
    return url


def path_of(upload: Any) -> Path:
    """Return the path of an uploaded file."""
    return Path(upload["path"])


def name_of(upload: Any) -> str:
    """Return the name that an uploaded file had on its owner's machine."""
    name = upload.get("orig_name")
    return name[:255] if isinstance(name, str) and name else path_of(upload).name


def read_upload(path: Path) -> bytes:
    """Read an uploaded file, up to one byte over the size limit; raises InvalidInput."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BLOB_BYTES + 1)
    except OSError:
        # The message omits the path, which is internal.
        raise InvalidInput("The uploaded image has expired: upload it again") from None
