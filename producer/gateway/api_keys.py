"""API keys of the gateway, and the secrets that its webhooks are signed with.

A key is shown once, when it is made; Redis has its SHA-256 alone. A key is 192 random bits, so
nothing slower than one hash is needed. Webhooks are signed by the gateway: their secrets are kept
as they are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from ..errors import InvalidInput
from ..ledger.keys import Keys

#: Seconds that a webhook secret signs on after it was replaced.
SECRET_OVERLAP_S: Final = 24 * 3600

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_KEY: Final = re.compile(r"blip_([0-9a-f]{12})_([0-9a-f]{48})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: nothing here lets anybody in."""

    id: str
    #: Whose it is: all keys of a name see the same jobs.
    name: str
    #: When it was made (Unix seconds).
    created_at: float
    #: SHA-256 of the whole key.
    digest: str


class ApiKeys:
    """The keys of one deployment; thread-safe. Raises redis-py's errors as they are."""

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

    def create(self, name: str) -> str:
        """Make a key for a name, which may have others; this is the only time that it is seen.

        The name's first key comes with its first webhook secret. Raises InvalidInput.
        """
        check_name(name)
        key_id = secrets.token_hex(6)
        key = f"blip_{key_id}_{secrets.token_hex(24)}"
        about = {"name": name, "created_at": self._clock(), "digest": digest(key)}
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._keys.api_keys, key_id, json.dumps(about))
        pipe.hsetnx(self._keys.webhook_secrets, name, json.dumps([_new_secret()]))
        pipe.execute()
        return key

    def list(self) -> Sequence[ApiKey]:
        """All keys, the oldest first."""
        found: dict[Any, Any] = self._redis.hgetall(self._keys.api_keys)
        keys = [_read(key_id.decode(), text) for key_id, text in found.items()]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> bool:
        """Let a key in no more, named by its id or by itself; False where there is none."""
        return bool(self._redis.hdel(self._keys.api_keys, id_of(key_id) or key_id))

    def revoke_all(self, name: str) -> int:
        """Let no key of a name in any more; returns how many there were."""
        ids = [key.id for key in self.list() if key.name == name]
        return int(self._redis.hdel(self._keys.api_keys, *ids)) if ids else 0

    def verify(self, key: str) -> str | None:
        """The name that a key stands for; None where it lets nobody in."""
        key_id = id_of(key)
        if key_id is None:
            return None
        text = self._redis.hget(self._keys.api_keys, key_id)
        if text is None:
            return None
        known = _read(key_id, text)
        return known.name if hmac.compare_digest(known.digest, digest(key)) else None

    def webhook_secrets(self, name: str) -> Sequence[str]:
        """What webhooks of a name are signed with, the newest first."""
        text = self._redis.hget(self._keys.webhook_secrets, name)
        return [secret["secret"] for secret in self._valid(text)]

    def rotate_webhook_secret(self, name: str) -> str:
        """Make a new secret; those before it go on to sign for SECRET_OVERLAP_S seconds.

        Raises InvalidInput where the name has none.
        """
        secret = _new_secret()

        def replace(pipe: Any) -> None:
            text = pipe.hget(self._keys.webhook_secrets, name)
            if text is None:
                raise no_secret(name)
            until = self._clock() + SECRET_OVERLAP_S
            old = [{"until": until, **one} for one in self._valid(text)]
            pipe.multi()
            pipe.hset(self._keys.webhook_secrets, name, json.dumps([secret, *old]))

        self._redis.transaction(replace, self._keys.webhook_secrets)
        return str(secret["secret"])

    def _valid(self, text: bytes | str | None) -> Sequence[dict[str, Any]]:
        now = self._clock()
        return [one for one in json.loads(text or "[]") if one.get("until", now) >= now]


def check_name(name: str) -> None:
    """Raises InvalidInput unless keys can be made for this name.

    Names have no dot: jobs' ids inside begin with them, and a dot ends them there.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r:.50}: a name has 1 to 32 small letters, digits and -, and begins with "
            "no -: acme, web-shop"
        )


def id_of(key: str) -> str | None:
    """The id in a key; None where it is no key at all."""
    match = _KEY.fullmatch(key)
    return None if match is None else match[1]


def shown_id(given: str) -> str:
    """An id as messages may show it: somebody may have taken the whole key for one."""
    return id_of(given) or given[:100]


def no_secret(name: str) -> InvalidInput:
    """For a name that never had a key."""
    return InvalidInput(f"{name!r:.50}: no key was ever made for this name")


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _read(key_id: str, text: bytes | str) -> ApiKey:
    about = json.loads(text)
    return ApiKey(key_id, about["name"], about["created_at"], about["digest"])


def _new_secret() -> dict[str, Any]:
    """As the Standard Webhooks convention has them: 24 to 64 random bytes."""
    return {"secret": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"}
