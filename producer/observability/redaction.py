"""Redaction of secrets in log lines: API keys, tokens, and passwords and queries of URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ..connection.url import redact_password

#: Secrets that their form identifies.
_PATTERNS: Final = (
    (re.compile(r"(blip_[0-9a-f]{12}_)[0-9a-f]+"), r"\1***"),
    (re.compile(r"(blipt_[A-Za-z0-9_-]+\.)[0-9a-f]+"), r"\1***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "whsec_***"),
    # Tokens of the Hugging Face hub, and keys of OpenAI-compatible servers.
    (re.compile(r"\b(hf_|sk-)[A-Za-z0-9_-]{16,}"), r"\1***"),
    (re.compile(r"\b(bearer|basic) [^\s\"',]+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"((?:key|token|secret|password)=)[^\s\"'&,]+", re.IGNORECASE), r"\1***"),
)
#: A URL up to the last @, because a password may contain any character, and then to the quote that
#: ends a string.
_URL: Final = re.compile(r'\w{0,20}://(?:\S*@)?[^\s"]*')
#: The query of a URL or a path: it often contains a secret (`X-Amz-Signature`).
_QUERY: Final = re.compile(r"(?<=\S)\?[^\s\"'<>=]*=[^\s\"'<>]*")
#: Names of environment variables whose values are secrets.
_SECRET_NAME: Final = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD|AUTH)$")
#: Minimum characters of a known secret: redaction of a shorter one would hide ordinary words.
MIN_SECRET_CHARS: Final = 8


class Redactor:
    """Redacts secrets by their form, and the given secrets by their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        # A secret may contain another one.
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub("***", text)
        if "://" in text:
            text = _URL.sub(lambda match: redact_password(match[0]), text)
        text = _QUERY.sub("?…", text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the values of the environment variables whose names say that they are secrets."""
    return [value for name, value in environment.items() if _SECRET_NAME.search(name)]
