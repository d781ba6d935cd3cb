"""The index of an account's jobs and batches, from the newest to the oldest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import redis

from ..errors import InvalidInput
from .keys import Keys

#: Kind of the indexed objects.
IndexKind = Literal["job", "batch"]
#: Pattern of a cursor.
CURSOR: Final = r"^([0-9]{1,12}(?:\.[0-9]{1,6})?)-([A-Za-z0-9._-]{1,64})$"
_CURSOR: Final = re.compile(CURSOR)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A job or batch of an account."""

    id: str
    #: Time of its submission, Unix s.
    submitted_at: float

    @property
    def cursor(self) -> str:
        """Text from which a later call continues after this entry."""
        return f"{self.submitted_at:.6f}-{self.id}"

    @classmethod
    def of_cursor(cls, cursor: str) -> Self:
        """Read a cursor; raises InvalidInput."""
        if (match := _CURSOR.fullmatch(cursor)) is None:
            raise InvalidInput(f"cursor={cursor!r:.100}: pass `next_cursor` of an earlier page")
        return cls(match[2], float(match[1]))


class AccountIndex:
    """The indexes of one deployment; thread-safe. Raises redis-py's errors unchanged."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys = Keys(),  # noqa: B008 - immutable
    ) -> None:
        self._redis = client
        self._keys = keys

    def page(
        self,
        account: str,
        kind: IndexKind,
        count: int,
        *,
        after: IndexEntry | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[IndexEntry]:
        """Return up to `count` entries, the newest first, submitted in [`since`, `until`].

        The page continues after the entry `after`, also if it has expired.
        """
        name = self._keys.index(account, kind)
        lowest: Any = "-inf" if since is None else since
        highest: Any = "+inf" if until is None else until
        if after is not None:
            highest = min(highest, after.submitted_at) if until is not None else after.submitted_at
        entries: list[IndexEntry] = []
        start = 0
        while len(entries) < count:
            missing = count - len(entries)
            rows: Any = self._redis.zrevrangebyscore(
                name, highest, lowest, start=start, num=missing, withscores=True
            )
            read = [IndexEntry(member.decode(), score) for member, score in rows]
            # Entries of the same time are in descending order of their ids.
            entries += [entry for entry in read if after is None or _follows(entry, after)]
            start += len(read)
            if len(read) < missing:
                break
        return entries

    def notes(self, inner_ids: Sequence[str]) -> list[str | None]:
        """Return the texts that jobs were submitted with; None for one that has expired."""
        pipe = self._redis.pipeline(transaction=False)
        for inner_id in inner_ids:
            pipe.hget(self._keys.metadata(inner_id), "note")
        texts: list[Any] = pipe.execute() if inner_ids else []
        return [None if text is None else text.decode() for text in texts]


def _follows(entry: IndexEntry, earlier: IndexEntry) -> bool:
    return (entry.submitted_at, entry.id) < (earlier.submitted_at, earlier.id)
