"""Quotas of webhooks in flight."""

from __future__ import annotations

from producer.webhooks.quotas import (
    MAX_HOST_IN_FLIGHT,
    MAX_IN_FLIGHT,
    MAX_TENANT_IN_FLIGHT,
    DeliveryQuotas,
)


def test_each_host_and_tenant_has_a_quota() -> None:
    quotas = DeliveryQuotas()
    for _ in range(MAX_HOST_IN_FLIGHT):
        assert quotas.acquire(("slow.example", "acme")) is None
    assert quotas.acquire(("slow.example", "other")) is not None
    for _ in range(MAX_TENANT_IN_FLIGHT - MAX_HOST_IN_FLIGHT):
        assert quotas.acquire(("quick.example", "acme")) is None
    assert quotas.acquire(("third.example", "acme")) is not None
    assert quotas.acquire(("third.example", "other")) is None
    quotas.release(("slow.example", "acme"))
    assert quotas.acquire(("slow.example", "acme")) is None
    assert quotas.free == MAX_IN_FLIGHT - MAX_TENANT_IN_FLIGHT - 1


def test_a_deferral_lasts_up_to_a_minute() -> None:
    quotas = DeliveryQuotas()
    for _ in range(MAX_HOST_IN_FLIGHT):
        quotas.acquire(("slow.example", ""))
    deferrals_s = [quotas.acquire(("slow.example", "")) or 0.0 for _ in range(20_000)]
    assert max(deferrals_s[:10]) < 1
    assert 30 < max(deferrals_s) < 61
    assert min(deferrals_s) > 0
