"""The LRU caches."""

from __future__ import annotations

from producer.gateway.http.lru import FairLRUCache, LRUCache


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


def test_an_owner_evicts_its_own_entries_first() -> None:
    cache: FairLRUCache[str, str] = FairLRUCache(4)
    cache.put("acme", "a", "acme's")
    for number in range(9):
        cache.put("globex", str(number), "globex's")
        cache.get("0")
    assert len(cache) == 4
    assert [key for key in "a012345678" if cache.get(key)] == ["a", "0", "7", "8"]
    # A key can change its owner.
    cache.put("acme", "8", "acme's")
    cache.put("initech", "i", "initech's")
    assert [cache.get(key) for key in ("8", "i")] == ["acme's", "initech's"]
    for key in "a078i":
        cache.drop(key)
        cache.drop(key)
    assert len(cache) == 0
