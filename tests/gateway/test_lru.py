"""The LRU cache."""

from __future__ import annotations

from producer.gateway.lru import LRUCache


def test_the_least_recently_used_entry_is_evicted() -> None:
    cache: LRUCache[str, int] = LRUCache(3)
    for number in range(5):
        cache.put(str(number), number)
        cache.get("0")
    assert len(cache) == 3
    assert [cache.get(key) for key in "01234"] == [0, None, None, 3, 4]
    cache.drop("3")
    cache.drop("1")
    assert cache.get("3") is None
