"""What may be shown of an image reference: a URL often carries a secret in its query."""

from __future__ import annotations

import re
from typing import Final

#: Characters of a reference that a message or a log line holds at most.
MAX_REDACTED_CHARS: Final = 200

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: A host and its port. Anything else may be a name and a password, cut off by a `?` within it.
_HOST: Final = re.compile(r"(\[[^]]*\]|[^:\[\]]*)(:[0-9]*)?")


def redact_url(reference: str) -> str:
    """Scheme, host and path; `?…` stands for query and fragment, `data:…` for data.

    Never raises, and shows no password and nothing after `?` or `#`, also where the reference is no
    URL at all. What cannot be printed becomes `�`, and the end of a long one `…`.
    """
    # Readers of URLs drop outer spaces, and some drop tabs and line breaks anywhere.
    text = re.sub(r"[\t\r\n]", "", reference.strip())
    text = text[: 8 * MAX_REDACTED_CHARS]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else "�" for one in text)
    found = _SCHEME.match(text)
    scheme = found.group().lower() if found else ""
    if scheme == "data:":
        return "data:…"
    place, *hidden = re.split(r"[?#]", text[len(scheme) :], maxsplit=1)
    whole = _without_user(scheme, place) + ("?…" if hidden else "")
    return whole if len(whole) <= MAX_REDACTED_CHARS else whole[: MAX_REDACTED_CHARS - 1] + "…"


def _without_user(scheme: str, place: str) -> str:
    slashes = place[: len(place) - len(place.lstrip("/\\"))]
    if scheme in ("", "file:") and not slashes.startswith("//"):
        return scheme + (place if scheme or slashes else place.rpartition("@")[2])
    if "@" in place and not slashes:
        # `user:password@host` looks like a scheme, too.
        return place.rpartition("@")[2]
    # A password may itself hold a slash; so all before the last `@` is left out.
    rest = place[len(slashes) :].rpartition("@")[2]
    host, slash, path = _parted(rest)
    if not _HOST.fullmatch(host):
        host = "…"
    return scheme + slashes + host + slash + path


def _parted(rest: str) -> tuple[str, str, str]:
    found = re.search(r"[/\\]", rest)
    if found is None:
        return rest, "", ""
    return rest[: found.start()], found.group(), rest[found.end() :]
