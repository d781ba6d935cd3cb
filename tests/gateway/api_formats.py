"""Schemathesis hooks: values of the formats in the OpenAPI description."""

from __future__ import annotations

import gzip
import json

import schemathesis
from hypothesis import strategies as st

#: Hosts that need no network and no DNS.
_HOSTS = st.sampled_from(["127.0.0.1:8080", "localhost", "[::1]"])
_PATHS = st.from_regex(r"(/[a-z0-9.-]{1,8}){0,3}(\?[a-z=&%0-9]{0,9})?", fullmatch=True)


def _url(scheme: str, host: str, path: str) -> str:
    return f"{scheme}://{host}{path}"


URLS = st.builds(_url, st.sampled_from(["http", "https"]), _HOSTS, _PATHS)
#: A job may name only a blob that its tenant has uploaded, so there is none here.
REFERENCES = st.one_of(
    URLS,
    st.sampled_from(["data:image/png;base64,eA==", "file:cat.jpg", "s3://bucket/cat.jpg"]),
)
ITEMS = st.one_of(
    st.fixed_dictionaries({"image": REFERENCES}, optional={"custom_id": st.text(max_size=9)}),
    st.fixed_dictionaries({"task": st.just("embed"), "text": st.text(max_size=9)}),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(), max_size=3),
)
#: Lines, some of which are invalid and become errors of their items.
LINES = st.lists(ITEMS.map(json.dumps) | st.just("{"), min_size=1, max_size=5).map("\n".join)

schemathesis.openapi.format("uri", URLS)
schemathesis.openapi.format("image-reference", REFERENCES)
schemathesis.openapi.format("jsonl", LINES)
for kind in ("application/x-ndjson", "application/jsonl", "text/plain", "application/gzip"):
    schemathesis.openapi.media_type(kind, LINES.map(str.encode))
for kind in ("image/png", "image/jpeg"):
    schemathesis.openapi.media_type(kind, st.binary(min_size=1, max_size=64))


def as_bytes(value: object) -> bytes:
    """Return lines as bytes; invalid values may have any type."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def as_lines(_: object, value: object) -> bytes:
    """Serialize lines unchanged."""
    return as_bytes(value)


@schemathesis.serializer("application/gzip")
def as_gzip(_: object, value: object) -> bytes:
    """Serialize lines as gzip."""
    return gzip.compress(as_bytes(value))
