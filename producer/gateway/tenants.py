"""Whose a request is, and the ids that belong to a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Path

from ..errors import InvalidInput

#: Ids that callers choose, or are given.
PUBLIC_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_ABOUT: Final = "1 to 64 letters, digits, `-`, `_` and `.`; the first a letter or a digit"
_PUBLIC_ID: Final = re.compile(PUBLIC_ID)


def path_id(example: str) -> Any:
    """The id in the path of a route."""
    pattern = {"pattern": f"^{PUBLIC_ID}$"}
    return Path(alias="id", description=_ABOUT, json_schema_extra=pattern, examples=[example])


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose request it is. Ids inside begin with the name, so nobody can reach another's."""

    name: str
    #: Empty for the page, whose visitors may have none.
    key_id: str = ""

    def job_id(self, outer_id: str) -> str:
        """The id inside of a job of this caller; raises InvalidInput."""
        return self._inner("job", outer_id)

    def batch_id(self, outer_id: str) -> str:
        """The id inside of a batch of this caller; raises InvalidInput."""
        return self._inner("batch", outer_id)

    def _inner(self, kind: str, outer_id: str) -> str:
        if not _PUBLIC_ID.fullmatch(outer_id):
            raise InvalidInput(f"id={outer_id!r:.100}: {_ABOUT}")
        return f"{self.name}.{kind}.{outer_id}"


def public_id_of(inner_id: str) -> str:
    """The id that callers know of what has this id inside."""
    return inner_id.split(".", 2)[2]


def tenant_of(inner_id: str, kind: str) -> str:
    """The name that the id of a job or batch begins with; empty where it came from no gateway."""
    name, _, rest = inner_id.partition(".")
    return name if rest.startswith(f"{kind}.") else ""
