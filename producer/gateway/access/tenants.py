"""Tenants (owners of API keys), and the inner ids that separate their jobs and batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Self

from fastapi import Path

from ...errors import InvalidInput
from .api_keys import ApiKey
from .key_policy import NO_LIMITS, KeyPolicy

#: Pattern of the ids that clients choose or receive.
PUBLIC_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_ID_RULE: Final = "1 to 64 letters, digits, `-`, `_` and `.`; the first a letter or a digit"
_PUBLIC_ID: Final = re.compile(PUBLIC_ID)


def path_id(example: str) -> Any:
    """Return the parameter for the id in a route's path."""
    pattern = {"pattern": f"^{PUBLIC_ID}$"}
    return Path(alias="id", description=_ID_RULE, json_schema_extra=pattern, examples=[example])


@dataclass(frozen=True, slots=True)
class Tenant:
    """The owner of an API key. Inner ids begin with its name, so ids of tenants cannot collide."""

    name: str
    #: Empty for the open page, whose visitors have no key.
    key_id: str = ""
    policy: KeyPolicy = NO_LIMITS

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Return the tenant that sends requests with a key."""
        return cls(key.name, key.id, key.policy)

    def job_id(self, public_id: str) -> str:
        """Return the inner id of a job of this tenant; raises InvalidInput."""
        return self._inner_id("job", public_id)

    def batch_id(self, public_id: str) -> str:
        """Return the inner id of a batch of this tenant; raises InvalidInput."""
        return self._inner_id("batch", public_id)

    def _inner_id(self, kind: str, public_id: str) -> str:
        if not _PUBLIC_ID.fullmatch(public_id):
            raise InvalidInput(f"id={public_id!r:.100}: {_ID_RULE}")
        return f"{self.name}.{kind}.{public_id}"


def public_id_of(inner_id: str) -> str:
    """Return the public id of a tenant's job or batch."""
    return inner_id.split(".", 2)[2]


def tenant_of(inner_id: str, kind: str) -> str:
    """Return the tenant's name in an inner id; empty if no gateway submitted the job or batch."""
    name, _, rest = inner_id.partition(".")
    return name if rest.startswith(f"{kind}.") else ""
