"""Malformed messages: messages of Celery's lists that no consumer can process.

A consumer sets such a message aside and takes the next one. Redis keeps the newest ones, each with
its first bytes, so that an operator can see who sent them.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import redis

from .. import contract
from .keys import Keys
from .script import LedgerScript

#: Begins the id of a malformed message; no job or chunk has such an id.
ID_PREFIX: Final = "malformed:m"
#: Maximum malformed messages; older ones are removed.
MAX_MESSAGES: Final = 256
#: Bytes of a malformed message that are kept.
KEPT_BYTES: Final = 16 << 10
#: Maximum characters of a reason: errors may quote the message.
_REASON_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class MalformedMessage:
    """A message that was set aside."""

    id: str
    #: Time at which it was set aside (Unix seconds).
    at: float
    #: Name of the list, or of another key, that it was taken from.
    queue: str
    #: Description of its first fault.
    reason: str
    #: Size of the message in bytes.
    size_bytes: int
    #: The message, or its first KEPT_BYTES bytes.
    data: bytes

    def encode(self) -> str:
        """Return the stored form."""
        return json.dumps(
            {
                "id": self.id,
                "at": self.at,
                "queue": self.queue,
                "reason": self.reason,
                "bytes": self.size_bytes,
                "base64": base64.b64encode(self.data).decode(),
            }
        )

    @classmethod
    def decode(cls, stored: bytes) -> Self:
        """Read the stored form."""
        fields: dict[str, Any] = json.loads(stored)
        return cls(
            fields["id"],
            fields["at"],
            fields["queue"],
            fields["reason"],
            fields["bytes"],
            base64.b64decode(fields["base64"]),
        )


class MalformedMessages:
    """The malformed messages of one deployment; thread-safe. Raises redis-py's errors as they are.

    A full Redis accepts them too: their number and size are bounded.
    """

    def __init__(self, client: redis.Redis, keys: Keys = Keys()) -> None:  # noqa: B008 - immutable
        self._redis = client
        self._keys = keys
        self._script = LedgerScript(client, keys.prefix)

    def add(self, queue: str, message: bytes, reason: str) -> MalformedMessage:
        """Store a message; return the entry."""
        entry = MalformedMessage(
            ID_PREFIX + secrets.token_hex(6),
            time.time(),
            queue,
            reason[:_REASON_CHARS],
            len(message),
            message[:KEPT_BYTES],
        )
        self._script.call("set_aside", entry.encode(), MAX_MESSAGES, contract.RESULT_TTL_S)
        return entry

    def read_all(self) -> list[MalformedMessage]:
        """Return all entries, the newest first."""
        stored: Any = self._redis.lrange(self._keys.malformed, 0, -1)
        return [MalformedMessage.decode(entry) for entry in stored]

    def remove(self, ids: Iterable[str]) -> int:
        """Remove these entries; return their number."""
        removed = set(ids)
        entries = [entry.encode() for entry in self.read_all() if entry.id in removed]
        return int(self._script.call("remove_malformed", *entries)) if entries else 0

    def clear(self) -> int:
        """Remove all entries; return their number."""
        return self.remove(entry.id for entry in self.read_all())

    def displace(self, types: dict[str, str]) -> list[MalformedMessage]:
        """Rename each key that has another type than `types` says; return an entry for each.

        `types` are Redis' names of types by the name of the key, without the deployment's prefix.
        """
        pairs = [word for pair in types.items() for word in pair]
        answer = self._script.call("displace", contract.RESULT_TTL_S, *pairs)
        words = [word.decode(errors="replace") for word in answer]
        return [
            self.add(name, b"", f"the key {name} is a {kind}; it was renamed to {target}")
            for name, kind, target in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]
