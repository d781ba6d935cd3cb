"""What one host and one name may hold of a sender."""

from __future__ import annotations

from producer.webhooks.quotas import HELD, HELD_EACH_HOST, HELD_EACH_NAME, DeliveryQuotas


def test_a_host_and_a_name_have_a_share_of_what_is_held() -> None:
    shares = DeliveryQuotas()
    for _ in range(HELD_EACH_HOST):
        assert shares.take(("slow.example", "acme")) is None
    assert shares.take(("slow.example", "other")) is not None
    for _ in range(HELD_EACH_NAME - HELD_EACH_HOST):
        assert shares.take(("quick.example", "acme")) is None
    assert shares.take(("third.example", "acme")) is not None
    assert shares.take(("third.example", "other")) is None
    shares.give_back(("slow.example", "acme"))
    assert shares.take(("slow.example", "acme")) is None
    assert shares.room == HELD - HELD_EACH_NAME - 1


def test_what_is_put_off_comes_again_within_a_minute() -> None:
    shares = DeliveryQuotas()
    for _ in range(HELD_EACH_HOST):
        shares.take(("slow.example", ""))
    pauses_s = [shares.take(("slow.example", "")) or 0.0 for _ in range(20_000)]
    assert max(pauses_s[:10]) < 1
    assert 30 < max(pauses_s) < 61
    assert min(pauses_s) > 0
