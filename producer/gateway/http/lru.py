"""Bounded LRU caches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LRUCache(Generic[Key, Value]):
    """An LRU cache: above `max_entries` it evicts the least recently used entry."""

    def __init__(self, max_entries: int) -> None:
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._max_entries = max_entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key and mark it as used; None if it is not cached."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Store a value; evict the least recently used entry if the cache is full."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def drop(self, key: Key) -> None:
        """Remove a key if it is cached."""
        self._entries.pop(key, None)


class FairLRUCache(Generic[Key, Value]):
    """An LRU cache of entries with owners, none of whom can evict the entries of all others.

    Above `max_entries` the owner with the most entries loses its least recently used one.
    """

    def __init__(self, max_entries: int) -> None:
        self._owners: dict[Key, str] = {}
        self._entries: dict[str, OrderedDict[Key, Value]] = {}
        self._max_entries = max_entries

    def __len__(self) -> int:
        return len(self._owners)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key and mark it as used; None if it is not cached."""
        if (owner := self._owners.get(key)) is None:
            return None
        self._entries[owner].move_to_end(key)
        return self._entries[owner][key]

    def put(self, owner: str, key: Key, value: Value) -> None:
        """Store an owner's value; evict an entry if the cache is full."""
        self.drop(key)
        self._owners[key] = owner
        self._entries.setdefault(owner, OrderedDict())[key] = value
        if len(self._owners) > self._max_entries:
            largest = max(self._entries.values(), key=len)
            self.drop(next(iter(largest)))

    def drop(self, key: Key) -> None:
        """Remove a key if it is cached."""
        if (owner := self._owners.pop(key, None)) is not None:
            del self._entries[owner][key]
            if not self._entries[owner]:
                del self._entries[owner]
