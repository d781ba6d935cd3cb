"""What one host and one name may hold of a sender."""

from __future__ import annotations

from producer.webhooks.quotas import (
    MAX_HOST_IN_FLIGHT,
    MAX_IN_FLIGHT,
    MAX_TENANT_IN_FLIGHT,
    DeliveryQuotas,
)


def test_a_host_and_a_name_have_a_share_of_what_is_held() -> None:
    shares = DeliveryQuotas()
    for _ in range(MAX_HOST_IN_FLIGHT):
        assert shares.acquire(("slow.example", "acme")) is None
    assert shares.acquire(("slow.example", "other")) is not None
    for _ in range(MAX_TENANT_IN_FLIGHT - MAX_HOST_IN_FLIGHT):
        assert shares.acquire(("quick.example", "acme")) is None
    assert shares.acquire(("third.example", "acme")) is not None
    assert shares.acquire(("third.example", "other")) is None
    shares.release(("slow.example", "acme"))
    assert shares.acquire(("slow.example", "acme")) is None
    assert shares.free == MAX_IN_FLIGHT - MAX_TENANT_IN_FLIGHT - 1


def test_what_is_put_off_comes_again_within_a_minute() -> None:
    shares = DeliveryQuotas()
    for _ in range(MAX_HOST_IN_FLIGHT):
        shares.acquire(("slow.example", ""))
    pauses_s = [shares.acquire(("slow.example", "")) or 0.0 for _ in range(20_000)]
    assert max(pauses_s[:10]) < 1
    assert 30 < max(pauses_s) < 61
    assert min(pauses_s) > 0
