"""Object stores that images are read from, and the syntax of their references and prefixes."""

from __future__ import annotations

import re
from typing import Final

#: Python package that reads each scheme.
PACKAGES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
#: Scheme, bucket and key. A user name before the bucket is not allowed: prefixes compare only the
#: bucket.
REFERENCE: Final = re.compile(r"([a-z][a-z0-9]*)://([A-Za-z0-9][A-Za-z0-9._-]*)/(.*)", re.DOTALL)


def is_store(reference: str) -> bool:
    """Return whether this is a reference to an object in a store."""
    scheme, separator, _ = reference.partition("://")
    return bool(separator) and scheme in PACKAGES


def parse_prefix(entry: str) -> str:
    """Return the prefix of allowed references, completed to the end of a path part.

    Raises ValueError unless it is `s3://bucket/` or `s3://bucket/path/`.
    """
    prefix = entry if entry.endswith("/") else f"{entry}/"
    match = REFERENCE.fullmatch(prefix)
    if match is None or match[1] not in PACKAGES or {".", ".."} & set(match[3].split("/")):
        schemes = ", ".join(f"{scheme}://" for scheme in PACKAGES)
        raise ValueError(
            f"{entry!r} is not a store prefix: write s3://bucket/ or s3://bucket/path/ ({schemes})"
        )
    return prefix
