"""API keys of the gateway, and the secrets that sign its webhooks.

A key is shown once, when it is created; Redis stores only its SHA-256. A key is 192 random bits, so
a single fast hash is sufficient. Webhook secrets are stored in plain text, because the gateway
signs with them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import redis

from ...errors import InvalidInput
from ...ledger.keys import Keys
from .key_policy import LIMIT_NAMES, NO_LIMITS, KeyPolicy

#: Seconds for which a replaced webhook secret still signs.
SECRET_OVERLAP_S: Final = 24 * 3600

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_KEY: Final = re.compile(r"blip_([0-9a-f]{12})_([0-9a-f]{48})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key; it contains nothing that authenticates."""

    id: str
    #: The tenant: all keys of a name have access to the same jobs.
    name: str
    #: Unix seconds.
    created_at: float
    #: SHA-256 of the whole key.
    digest: str
    policy: KeyPolicy = NO_LIMITS


class ApiKeys:
    """The keys of one deployment; thread-safe. Raises redis-py's errors unchanged."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = client
        self._keys = keys
        self._clock = clock

    def create(self, name: str, policy: KeyPolicy = NO_LIMITS) -> str:
        """Create a key for a name, which may have other keys. The key cannot be read again.

        The first key of a name also creates its webhook secret. Raises InvalidInput.
        """
        check_name(name)
        key_id = secrets.token_hex(6)
        key = f"blip_{key_id}_{secrets.token_hex(24)}"
        record = {"name": name, "created_at": self._clock(), "digest": digest(key)}
        record |= policy.to_json()
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._keys.api_keys, key_id, json.dumps(record))
        pipe.hsetnx(self._keys.webhook_secrets, name, json.dumps([_new_secret()]))
        pipe.execute()
        return key

    def change(self, key_id: str, changes: Mapping[str, Any]) -> ApiKey | None:
        """Change limits of a key, fields of its policy; return it, None if there is none."""
        changed: ApiKey | None = None

        def replace_limits(pipe: Any) -> None:
            nonlocal changed
            changed, text = None, pipe.hget(self._keys.api_keys, key_id)
            pipe.multi()
            if text is not None:
                record = json.loads(text)
                policy = replace(KeyPolicy.decode(record), **changes)
                identity = {name: record[name] for name in record if name not in LIMIT_NAMES}
                stored = json.dumps(identity | policy.to_json())
                pipe.hset(self._keys.api_keys, key_id, stored)
                changed = _decode(key_id, stored)

        self._redis.transaction(replace_limits, self._keys.api_keys)
        return changed

    def list(self) -> Sequence[ApiKey]:
        """Return all keys, the oldest first."""
        records: dict[Any, Any] = self._redis.hgetall(self._keys.api_keys)
        keys = [_decode(key_id.decode(), text) for key_id, text in records.items()]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> bool:
        """Revoke a key, given its id or the key itself; return False if there is none."""
        return bool(self._redis.hdel(self._keys.api_keys, key_id_of(key_id) or key_id))

    def revoke_all(self, name: str) -> int:
        """Revoke all keys of a name; return their number."""
        ids = [key.id for key in self.list() if key.name == name]
        return int(self._redis.hdel(self._keys.api_keys, *ids)) if ids else 0

    def verify(self, key: str) -> str | None:
        """Return the name of a key; None if the key is not valid."""
        stored = self.find(key)
        return None if stored is None else stored.name

    def find(self, key: str) -> ApiKey | None:
        """Return the stored key; None if the key is not valid."""
        key_id = key_id_of(key)
        if key_id is None:
            return None
        text = self._redis.hget(self._keys.api_keys, key_id)
        if text is None:
            return None
        stored = _decode(key_id, text)
        is_valid = hmac.compare_digest(stored.digest, digest(key))
        return stored if is_valid and not stored.policy.has_expired(self._clock()) else None

    def get(self, key_id: str) -> ApiKey | None:
        """Return the stored key of an id, also if it has expired; None if there is none."""
        text = self._redis.hget(self._keys.api_keys, key_id)
        return None if text is None else _decode(key_id, text)

    def webhook_secrets(self, name: str) -> Sequence[str]:
        """Return the secrets that sign the webhooks of a name, the newest first."""
        text = self._redis.hget(self._keys.webhook_secrets, name)
        return [secret["secret"] for secret in self._unexpired(text)]

    def rotate_webhook_secret(self, name: str) -> str:
        """Create a new secret; earlier ones still sign for SECRET_OVERLAP_S seconds.

        Raises InvalidInput if the name has none.
        """
        new = _new_secret()

        def replace(pipe: Any) -> None:
            text = pipe.hget(self._keys.webhook_secrets, name)
            if text is None:
                raise missing_secret(name)
            until = self._clock() + SECRET_OVERLAP_S
            old = [{"until": until, **secret} for secret in self._unexpired(text)]
            pipe.multi()
            pipe.hset(self._keys.webhook_secrets, name, json.dumps([new, *old]))

        self._redis.transaction(replace, self._keys.webhook_secrets)
        return str(new["secret"])

    def _unexpired(self, text: bytes | str | None) -> Sequence[dict[str, Any]]:
        now = self._clock()
        return [secret for secret in json.loads(text or "[]") if secret.get("until", now) >= now]


def check_name(name: str) -> None:
    """Check that keys can be created for a name; raises InvalidInput.

    Names contain no dot: inner ids of jobs begin with the name, and a dot ends it there.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r:.50}: a name has 1 to 32 lower-case letters, digits and -, and does not "
            "begin with -: acme, web-shop"
        )


def key_id_of(key: str) -> str | None:
    """Return the id within a key; None if the text is not a key."""
    match = _KEY.fullmatch(key)
    return None if match is None else match[1]


def printable_key_id(text: str) -> str:
    """Redact an id for messages: the user may have passed the whole key instead."""
    return key_id_of(text) or text[:100]


def missing_secret(name: str) -> InvalidInput:
    """Return the error for a name that never had a key."""
    return InvalidInput(f"{name!r:.50}: no key was ever created for this name")


def digest(key: str) -> str:
    """Return the SHA-256 of a key, as it is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


def _decode(key_id: str, text: bytes | str) -> ApiKey:
    record = json.loads(text)
    policy = KeyPolicy.decode(record)
    return ApiKey(key_id, record["name"], record["created_at"], record["digest"], policy)


def _new_secret() -> dict[str, Any]:
    """Create a secret of the Standard Webhooks convention: 24 to 64 random bytes."""
    return {"secret": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"}
