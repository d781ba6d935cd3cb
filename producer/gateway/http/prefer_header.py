"""The `Prefer: wait` header (RFC 7240): long polling at the client's request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

#: Maximum characters of a header; longer ones are ignored.
MAX_CHARS: Final = 256
#: A preference, its value, and parameters, which `wait` does not have. Possessive quantifiers
#: (`*+`) prevent catastrophic backtracking.
_PREFERENCE: Final = re.compile(
    r"\s*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)\s*+"
    r'(?:=\s*+("(?:[^"\\]|\\.)*+"|[^\s,;"]*+)\s*+)?(?:;[^,]*+)?\Z'
)
#: Parts between commas; a comma within quotes does not separate, and an open quote extends to the
#: end.
_PARTS: Final = re.compile(r'(?:"(?:[^"\\]|\\.?)*+(?:"|\Z)|[^",])++')


def wait_s(headers: Iterable[str], max_s: int) -> int | None:
    """Return the seconds that a client prefers to wait, at most `max_s`; None if unspecified.

    As the RFC demands, invalid preferences are ignored, and the first of several applies.
    """
    for name, value in _preferences(headers):
        if name == "wait":
            if not (value.isascii() and value.isdecimal()):
                return None
            # Python does not parse numbers of thousands of digits.
            return min(int(value.lstrip("0")[:9] or "0"), max_s)
    return None


def _preferences(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for header in headers:
        for part in _PARTS.findall(header) if len(header) <= MAX_CHARS else ():
            match = _PREFERENCE.match(part)
            if match:
                yield match[1].lower(), (match[2] or "").strip('"')
