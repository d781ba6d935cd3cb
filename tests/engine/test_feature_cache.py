from __future__ import annotations

import torch

from worker.engine.feature_cache import FeatureCache


def feature(value: float) -> torch.Tensor:
    return torch.full((4, 8), float(value))  # 128 bytes


def test_the_least_recently_used_feature_is_evicted_first() -> None:
    cache = FeatureCache(max_bytes=2 * 128)
    cache.put("a", feature(1))
    cache.put("b", feature(2))
    assert cache.get("a") is not None  # now b is the oldest
    cache.put("c", feature(3))
    assert ["a" in cache, "b" in cache, "c" in cache] == [True, False, True]


def test_the_cache_never_exceeds_its_limit() -> None:
    cache = FeatureCache(max_bytes=1000)
    for number in range(50):
        cache.put(str(number), feature(number))
        assert cache.bytes == 128 * len(cache) <= 1000
    assert len(cache) == 7


def test_putting_a_hash_again_replaces_it_and_counts_once() -> None:
    cache = FeatureCache(max_bytes=1000)
    cache.put("a", feature(1))
    cache.put("a", feature(2))
    cached = cache.get("a")
    assert cached is not None
    assert cached[0, 0] == 2
    assert cache.bytes == 128


def test_a_feature_larger_than_the_cache_is_not_stored_and_evicts_nothing() -> None:
    cache = FeatureCache(max_bytes=130)
    cache.put("a", feature(1))
    cache.put("b", torch.zeros(100))
    assert "a" in cache
    assert "b" not in cache


def test_a_cleared_cache_is_empty() -> None:
    cache = FeatureCache(max_bytes=1000)
    cache.put("a", feature(1))
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
