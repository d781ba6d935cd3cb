"""Redaction of URLs and image references for messages and logs: a query often contains a secret."""

from __future__ import annotations

import re
from typing import Final

#: Maximum characters of a reference in a message or a log line.
MAX_REDACTED_CHARS: Final = 200

#: A URL or data within a text.
_URL: Final = re.compile(r"\b(?:data:|[A-Za-z][A-Za-z0-9+.-]{0,30}://)\S+", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: A host and its port. Anything else may be a name and a password that contains a `?`.
_HOST: Final = re.compile(r"(\[[^]]*\]|[^:\[\]]*)(:[0-9]*)?")


def redact_url(reference: str) -> str:
    """Redact a URL to its scheme, host and path; `?…` stands for query and fragment.

    It never raises, and it shows neither a password nor text after `?` or `#`, even if the
    reference is not a URL. `data:…` stands for data, `�` for a character that cannot be printed,
    and `…` for the end of a long reference.
    """
    # URL parsers drop outer spaces, and some drop tabs and line breaks anywhere.
    text = re.sub(r"[\t\r\n]", "", reference.strip())
    text = text[: 8 * MAX_REDACTED_CHARS]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "�" for char in text)
    match = _SCHEME.match(text)
    scheme = match.group().lower() if match else ""
    if scheme == "data:":
        return "data:…"
    location, *query = re.split(r"[?#]", text[len(scheme) :], maxsplit=1)
    shown = _without_user(scheme, location) + ("?…" if query else "")
    return shown if len(shown) <= MAX_REDACTED_CHARS else shown[: MAX_REDACTED_CHARS - 1] + "…"


def redact_text(text: str) -> str:
    """Redact the URLs of a text, and the data in it."""
    return _URL.sub(lambda match: redact_url(match.group()), text)


def _without_user(scheme: str, location: str) -> str:
    slashes = location[: len(location) - len(location.lstrip("/\\"))]
    if scheme in ("", "file:") and not slashes.startswith("//"):
        return scheme + (location if scheme or slashes else location.rpartition("@")[2])
    if "@" in location and not slashes:
        # The start of `user:password@host` looks like a scheme.
        return location.rpartition("@")[2]
    # A password may contain a slash, so everything before the last `@` is dropped.
    rest = location[len(slashes) :].rpartition("@")[2]
    host, slash, path = _split_path(rest)
    if not _HOST.fullmatch(host):
        host = "…"
    return scheme + slashes + host + slash + path


def _split_path(rest: str) -> tuple[str, str, str]:
    match = re.search(r"[/\\]", rest)
    if match is None:
        return rest, "", ""
    return rest[: match.start()], match.group(), rest[match.end() :]
