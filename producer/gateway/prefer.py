"""What a client would like, and may be denied: the `Prefer` header (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

#: Characters of a header from which on it is ignored: nobody has so much to prefer.
MAX_CHARS: Final = 256
#: A preference, its value, and parameters, which none of ours has. Possessive (`*+`), so that no
#: header is read in more ways than one.
_PREFERENCE: Final = re.compile(
    r"\s*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)\s*+"
    r'(?:=\s*+("(?:[^"\\]|\\.)*+"|[^\s,;"]*+)\s*+)?(?:;[^,]*+)?\Z'
)
#: Commas within quotes separate nothing; quotes that nobody closed go on to the end.
_PARTS: Final = re.compile(r'(?:"(?:[^"\\]|\\.?)*+(?:"|\Z)|[^",])++')


def wait_s(headers: Iterable[str], most_s: int) -> int | None:
    """Seconds that a client would wait for the end, `most_s` at most; None where it does not say.

    What makes no sense is ignored, as the RFC has it; of several the first counts.
    """
    for name, value in _preferences(headers):
        if name == "wait":
            if not (value.isascii() and value.isdecimal()):
                return None
            # Python refuses to read numbers of thousands of digits.
            return min(int(value.lstrip("0")[:9] or "0"), most_s)
    return None


def _preferences(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for header in headers:
        for part in _PARTS.findall(header) if len(header) <= MAX_CHARS else ():
            found = _PREFERENCE.match(part)
            if found:
                yield found[1].lower(), (found[2] or "").strip('"')
