"""The policy of an API key: the requests, tasks and images that it allows, and its expiry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from ..contract import Task

#: Scopes: submit jobs and images; read states, results and lists; cancel, retry and delete.
SCOPES: Final = ("submit", "read", "manage")


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Limits of a key; the default one allows everything that the gateway does."""

    #: Whether its requests may name private images: `file:` and those of object stores.
    private_images: bool = True
    scopes: Collection[str] = SCOPES
    #: Short names of the tasks; None stands for all.
    tasks: Collection[str] | None = None
    #: Unix seconds; None stands for never.
    expires_at: float | None = None
    #: Maximum requests per minute; None stands for the gateway's rate.
    rate: int | None = None

    @classmethod
    def decode(cls, record: Mapping[str, Any]) -> Self:
        """Read the fields of a stored key; those of an older version are missing."""
        return cls(
            record.get("private_images", True),
            tuple(record.get("scopes", SCOPES)),
            None if (tasks := record.get("tasks")) is None else tuple(tasks),
            record.get("expires_at"),
            record.get("rate"),
        )

    def fields(self) -> dict[str, Any]:
        """Return the limits by name, without those that do not limit."""
        limits = {
            "private_images": None if self.private_images else False,
            "scopes": None if set(self.scopes) == set(SCOPES) else list(self.scopes),
            "tasks": None if self.tasks is None else list(self.tasks),
            "expires_at": self.expires_at,
            "rate": self.rate,
        }
        return {name: value for name, value in limits.items() if value is not None}

    def has_expired(self, now: float) -> bool:
        """Return whether the key is no longer valid at a Unix time."""
        return self.expires_at is not None and self.expires_at <= now

    def allows_task(self, task: Task) -> bool:
        """Return whether the key allows jobs of a task."""
        return self.tasks is None or task.short in self.tasks


#: The policy of a key without limits of its own.
NO_LIMITS: Final = KeyPolicy()
