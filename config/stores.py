"""Object stores that images may be read from, and how settings name what of them is allowed."""

from __future__ import annotations

import re
from typing import Final

#: The package that reads each kind of store.
PACKAGES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
#: Kind, bucket and key. No user name before the bucket: a bucket is all that is compared.
REFERENCE: Final = re.compile(r"([a-z][a-z0-9]*)://([A-Za-z0-9][A-Za-z0-9._-]*)/(.*)", re.DOTALL)


def is_store(reference: str) -> bool:
    """Whether this is a reference to an object in a store."""
    kind, separator, _ = reference.partition("://")
    return bool(separator) and kind in PACKAGES


def parse_prefix(entry: str) -> str:
    """What allowed references begin with, up to the end of a part of their path.

    Raises ValueError unless it is `s3://bucket/` or `s3://bucket/path/`.
    """
    whole = entry if entry.endswith("/") else f"{entry}/"
    found = REFERENCE.fullmatch(whole)
    if found is None or found[1] not in PACKAGES or {".", ".."} & set(found[3].split("/")):
        kinds = ", ".join(f"{kind}://" for kind in PACKAGES)
        raise ValueError(
            f"{entry!r} is nothing in a store, as s3://bucket/ or s3://bucket/path/ ({kinds})"
        )
    return whole
