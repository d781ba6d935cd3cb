"""What was used last."""

from __future__ import annotations

from producer.gateway.lru import LRUCache


def test_what_is_remembered_is_bounded() -> None:
    recent: LRUCache[str, int] = LRUCache(3)
    for number in range(5):
        recent.put(str(number), number)
        recent.get("0")
    assert len(recent) == 3
    assert [recent.get(key) for key in "01234"] == [0, None, None, 3, 4]
    recent.drop("3")
    recent.drop("1")
    assert recent.get("3") is None
