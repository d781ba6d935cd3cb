"""Schemathesis hooks: values of the formats in the OpenAPI description."""

from __future__ import annotations

import gzip
import json
import re
import sys
from functools import cache
from typing import Any, Final

import schemathesis
from hypothesis import strategies as st
from hypothesis.internal import charmap
from hypothesis.internal.intervalsets import IntervalSet
from schemathesis.generation.meta import CoveragePhaseData

#: Characters of the codecs that schemathesis draws from, and those that change when decoded.
#: Otherwise hypothesis encodes and decodes each of the million characters, in five seconds.
CHARACTERS: Final = {
    "utf-8": (IntervalSet([(0, 0xD7FF), (0xE000, sys.maxunicode)]), IntervalSet([])),
    "ascii": (IntervalSet([(0, 127)]), IntervalSet([])),
}
charmap.intervals_from_codec = cache(CHARACTERS.__getitem__)

#: Hosts that need no network and no DNS.
_HOSTS = st.sampled_from(["127.0.0.1:8080", "localhost", "[::1]"])
#: No regular expression: drawing from one took a fifth of the time of all requests.
_PATHS = st.sampled_from(["", "/", "?", "?a=%41&b", "/a.png", "/a-b/..?x=1", "/0/cat.jpg/c?=&="])


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


#: A form of the body in a JSON pointer: one of the seven tasks, or of a field's types.
_FORM: Final = re.compile(r"/(oneOf|anyOf|allOf)/\d+")
_tried: Final[set[tuple[object, ...]]] = set()


@schemathesis.hook
def filter_case(_: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Pass each kind of violation of a field once, and valid values of it once for each task.

    The coverage phase repeats the fields that all tasks share for each of them: 2,282 bodies of one
    operation, in most of the test's time.
    """
    data = case.meta.phase.data if case.meta else None
    if not isinstance(data, CoveragePhaseData):
        return True
    valid = case.meta is not None and case.meta.generation.mode.is_positive
    shared = not valid or "'options'" in data.description
    task = None if shared or not isinstance(case.body, dict) else str(case.body.get("task"))
    field = _FORM.sub("", str(data.parameter))
    kind = (case.operation.label, data.description, field, data.parameter_location, valid, task)
    is_new = kind not in _tried
    _tried.add(kind)
    return is_new
