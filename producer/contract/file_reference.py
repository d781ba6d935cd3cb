"""The path of a `file:` reference, as the worker opens it and as the gateway checks it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def local_path(reference: str) -> bytes | None:
    """Return the path of a `file:` reference, decoded; None if it names another host."""
    path = reference.partition(":")[2]
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            return None
        path = slash + rest
    return unquote_to_bytes(path.encode("utf-8", "surrogatepass"))
