"""Short-lived tokens for browsers: each allows the events of one batch, and nothing else.

`EventSource` sends no header, so the token is in the URL. It is signed with the digest of the API
key that has created it: it needs no storage, and ends with the key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl

from .api_keys import ApiKey

#: Name of the query parameter.
PARAMETER: Final = "token"
#: Path of the only requests that a token allows.
_EVENTS_PATH: Final = re.compile(r"/v1/batches/([^/]+)/events")
_TOKEN: Final = re.compile(r"blipt_([A-Za-z0-9_-]{1,300})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class EventToken:
    """A token: the key that has created it, the batch, and when it ends (Unix s)."""

    key_id: str
    batch_id: str
    expires_at: int

    def encode(self, key: ApiKey) -> str:
        """Return the text, signed with the digest of the key."""
        fields = json.dumps([self.key_id, self.batch_id, self.expires_at]).encode()
        payload = base64.urlsafe_b64encode(fields).decode().rstrip("=")
        return f"blipt_{payload}.{_signature(key, payload)}"

    @classmethod
    def decode(cls, text: str) -> Self | None:
        """Read a token without a check of its signature; None if the text is none."""
        if (match := _TOKEN.fullmatch(text)) is None:
            return None
        payload = match[1]
        try:
            fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            key_id, batch_id, expires_at = fields
        except (ValueError, TypeError):
            return None
        is_valid = isinstance(key_id, str) and isinstance(batch_id, str)
        return cls(key_id, batch_id, expires_at) if is_valid and type(expires_at) is int else None


def is_signed(text: str, key: ApiKey) -> bool:
    """Return whether a key has signed a token."""
    match = _TOKEN.fullmatch(text)
    return match is not None and hmac.compare_digest(match[2], _signature(key, match[1]))


def token_of_request(path: str, query: bytes) -> tuple[str, str] | None:
    """Return the token of a request for events, and its batch; None without a token."""
    match = _EVENTS_PATH.fullmatch(path)
    if match is None or PARAMETER.encode() not in query:
        return None
    values = [value for name, value in parse_qsl(query.decode("latin-1")) if name == PARAMETER]
    return (values[0], match[1]) if len(values) == 1 else None


def _signature(key: ApiKey, payload: str) -> str:
    message = f"events {payload}".encode()
    return hmac.new(key.digest.encode(), message, hashlib.sha256).hexdigest()
