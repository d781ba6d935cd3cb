"""Private images of API keys: the folders and object stores that their requests may name.

Workers read `file:` and object store references with their own rights, so a key can be limited to
prefixes of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ...contract.file_reference import local_path
from ...errors import InvalidInput

#: Schemes of the images that a client could read itself; all others are private.
_PUBLIC_SCHEMES: Final = ("http", "https", "blob")
#: A store, and the keys of its objects. Workers compare it as it is.
_STORE: Final = re.compile(r"[a-z][a-z0-9]*://[A-Za-z0-9][A-Za-z0-9._-]*/(.*)", re.DOTALL)
_HELP: Final = "write file:folder/, s3://bucket/ or s3://bucket/path/"


def parse_image_prefix(text: str) -> str:
    """Return a prefix of references, completed to the end of a path part; raises InvalidInput."""
    prefix = text if text.endswith(("/", ":")) else f"{text}/"
    scheme = prefix.partition(":")[0]
    is_file = scheme == "file" and ":" in prefix
    parts = _file_parts(prefix) if is_file else _object_parts(prefix[:-1])
    if scheme in _PUBLIC_SCHEMES or parts is None:
        raise InvalidInput(f"{text!r:.100} is not a prefix of images: {_HELP}")
    return prefix


@dataclass(frozen=True, slots=True)
class ImageAccess:
    """The private images that requests may name: those under `prefixes`, or all if it is None."""

    prefixes: Collection[str] | None = None

    def refusal(self, reference: str) -> str | None:
        """Return the reason that a reference must not be used; None if it may be."""
        scheme = reference.partition(":")[0].lower()
        if self.prefixes is None or scheme in _PUBLIC_SCHEMES:
            return None
        if not self.prefixes:
            return (
                f"{scheme}: references are not allowed for this API key: send a URL, "
                "blob:<sha256> (see POST /v1/images) or a data: URL"
            )
        if any(_is_under(prefix, reference) for prefix in self.prefixes):
            return None
        names = ", ".join(self.prefixes)
        return (
            f"{reference!r:.100} is not under a prefix that this API key allows ({names}): name an "
            "image under one of them, or send a URL, blob:<sha256> or a data: URL"
        )


#: Access to all private images, and to none.
ALL_IMAGES: Final = ImageAccess()
NO_PRIVATE_IMAGES: Final = ImageAccess(())


def _is_under(prefix: str, reference: str) -> bool:
    if not prefix.startswith("file:"):
        return reference.startswith(prefix) and _object_parts(reference) is not None
    if reference.partition(":")[0].lower() != "file":
        return False
    parts, folder = _file_parts(reference), _file_parts(prefix)
    return parts is not None and folder is not None and parts[: len(folder)] == folder


def _object_parts(reference: str) -> list[str] | None:
    """Return the parts of an object's key; None if it could leave a prefix."""
    match = _STORE.fullmatch(reference if reference.count("/") > 2 else f"{reference}/")
    parts = [] if match is None or not match[1] else match[1].split("/")
    return None if match is None or {"", ".", ".."} & set(parts) else parts


def _file_parts(reference: str) -> list[bytes] | None:
    """Return the parts of a path, the first one empty if it is absolute.

    None if it could leave its folder, or names another host.
    """
    if (path := local_path(reference)) is None:
        return None
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    return None if b".." in parts else [b""] * path.startswith(b"/") + parts
