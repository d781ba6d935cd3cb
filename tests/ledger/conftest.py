"""Fixtures of the ledger's tests."""

from __future__ import annotations

import pytest
import redis

from producer.ledger import Leases, Ledger


@pytest.fixture
def ledger(connection: redis.Redis) -> Ledger:
    return Ledger(connection)


@pytest.fixture
def leases(connection: redis.Redis) -> Leases:
    return Leases(connection)
