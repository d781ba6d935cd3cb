"""The picture that is asked about: an uploaded file, or a URL for the worker to fetch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ..contract import MAX_BLOB_BYTES
from ..errors import InvalidInput
from ..ledger.blobs import ImageSource

_HTTPS: Final = re.compile(r"https://[^\s/]+\S*", re.IGNORECASE)


def reference(url: str) -> str:
    """The URL, which the worker alone fetches, with its guard; raises InvalidInput."""
    url = url.strip()
    if not _HTTPS.fullmatch(url):
        raise InvalidInput("The address of a picture begins with https://")
    return url


def which(upload: Any, url: str | None) -> str:
    """Says of two choices whether they are the same picture: the URL where there is one."""
    return (url or "").strip() or str(path_of(upload) if upload else "")


def path_of(upload: Any) -> Path:
    """Where an uploaded file lies."""
    return Path(upload["path"])


def name_of(upload: Any) -> str:
    """What its owner calls it."""
    name = upload.get("orig_name")
    return name[:255] if isinstance(name, str) and name else path_of(upload).name


def read(path: Path) -> bytes:
    """An uploaded file; one byte more than may be uploaded at most. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BLOB_BYTES + 1)
    except OSError:
        # Its path is nobody's business.
        raise InvalidInput("The picture is no longer here: upload it again") from None


def source(upload: Any, url: str | None) -> ImageSource:
    """The picture that is meant: the URL where there is one. Raises InvalidInput."""
    if url and url.strip():
        return reference(url)
    if not upload:
        raise InvalidInput("Choose a picture first, or give the address of one")
    return read(path_of(upload))
