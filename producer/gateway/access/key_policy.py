"""The policy of an API key: the requests, tasks and images that it allows, quotas, expiry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from ...contract import Task

#: Scopes: submit jobs and images; read states, results and lists; cancel, retry and delete.
SCOPES: Final = ("submit", "read", "manage")


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Limits of a key; the default one allows everything that the gateway does."""

    scopes: Collection[str] = SCOPES
    #: Short names of the tasks; None stands for all.
    tasks: Collection[str] | None = None
    #: Unix seconds; None stands for never.
    expires_at: float | None = None
    #: Maximum requests per minute; None stands for the gateway's rate.
    rate: int | None = None
    #: Prefixes of the private images, `file:` and those of object stores, that its requests may
    #: name; None stands for all.
    image_prefixes: Collection[str] | None = None
    #: Maximum items, and MiB of request bodies, of a day (UTC); None stands for unlimited.
    items_per_day: int | None = None
    mb_per_day: int | None = None

    @classmethod
    def decode(cls, record: Mapping[str, Any]) -> Self:
        """Read the fields of a stored key; those of an older version are missing."""
        return cls(
            tuple(record.get("scopes", SCOPES)),
            None if (tasks := record.get("tasks")) is None else tuple(tasks),
            record.get("expires_at"),
            record.get("rate"),
            None if record.get("private_images", True) else tuple(record.get("image_prefixes", ())),
            record.get("items_per_day"),
            record.get("mb_per_day"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the limits by name, without those that do not limit."""
        limits = {
            # Gateways of earlier versions know only this field, and deny all private images.
            "private_images": None if self.image_prefixes is None else False,
            "image_prefixes": list(self.image_prefixes or ()) or None,
            "scopes": None if set(self.scopes) == set(SCOPES) else list(self.scopes),
            "tasks": None if self.tasks is None else list(self.tasks),
            "expires_at": self.expires_at,
            "rate": self.rate,
            "items_per_day": self.items_per_day,
            "mb_per_day": self.mb_per_day,
        }
        return {name: value for name, value in limits.items() if value is not None}

    def has_expired(self, now: float) -> bool:
        """Return whether the key is no longer valid at a Unix time."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def private_images(self) -> bool:
        """True if its requests may name private images."""
        return self.image_prefixes is None or bool(self.image_prefixes)

    def allows_task(self, task: Task) -> bool:
        """Return whether the key allows jobs of a task."""
        return self.tasks is None or task.short in self.tasks


#: Names of the limits in a stored key.
LIMIT_NAMES: Final = frozenset({*(field.name for field in fields(KeyPolicy)), "private_images"})
#: The policy of a key without limits of its own.
NO_LIMITS: Final = KeyPolicy()
