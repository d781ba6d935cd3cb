"""API keys and webhook secrets, in a real Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import redis

from producer.errors import InvalidInput
from producer.gateway.access.api_keys import SECRET_OVERLAP_S, ApiKeys, key_id_of
from producer.ledger.keys import Keys


@pytest.fixture
def keys(connection: redis.Redis) -> ApiKeys:
    return ApiKeys(connection)


def everything(connection: redis.Redis) -> bytes:
    """Return all values in Redis."""
    return b"".join(connection.dump(key) or b"" for key in connection.scan_iter())


def test_a_key_belongs_to_its_name(keys: ApiKeys) -> None:
    key = keys.create("acme")
    assert keys.verify(key) == "acme"
    assert key_id_of(key) == keys.list()[0].id


def test_keys_of_a_name_are_revoked_separately(keys: ApiKeys) -> None:
    old, new = keys.create("acme"), keys.create("acme")
    assert keys.revoke(key_id_of(old) or "")
    assert (keys.verify(old), keys.verify(new)) == (None, "acme")
    assert not keys.revoke(key_id_of(old) or "")


def test_revoke_accepts_the_key_itself(keys: ApiKeys) -> None:
    key = keys.create("acme")
    assert keys.revoke(key)
    assert keys.verify(key) is None


def test_revoke_all_affects_only_one_name(keys: ApiKeys) -> None:
    acme, foreign = [keys.create("acme") for _ in range(3)], keys.create("other")
    assert keys.revoke_all("acme") == 3
    assert [keys.verify(key) for key in acme] == [None] * 3
    assert keys.verify(foreign) == "other"
    assert keys.revoke_all("acme") == 0


def test_redis_stores_only_hashes_of_keys(keys: ApiKeys, connection: redis.Redis) -> None:
    key = keys.create("acme")
    secret = key.rpartition("_")[2]
    stored = everything(connection)
    assert secret.encode() not in stored
    assert hashlib.sha256(key.encode()).hexdigest().encode() in stored
    assert secret not in repr(keys.list())


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key.upper(),
        lambda key: key.replace("blip_", ""),
        lambda key: key + "\n",
        lambda key: f"blip_000000000000_{key[-48:]}",
        lambda key: f"{key[:18]}{'0' * 48}",
    ],
)
def test_a_modified_key_is_invalid(keys: ApiKeys, change: Callable[[str], str]) -> None:
    assert keys.verify(change(keys.create("acme"))) is None


def test_a_secret_is_invalid_with_another_id(keys: ApiKeys) -> None:
    first, second = keys.create("acme"), keys.create("other")
    assert keys.verify(first[:18] + second[18:]) is None


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "-a", "a" * 33, "a b", "a\n", "ä", "a_b"])
def test_a_name_that_could_collide_in_ids_is_rejected(keys: ApiKeys, name: str) -> None:
    with pytest.raises(InvalidInput, match="a name has 1 to 32"):
        keys.create(name)
    assert not keys.list()


def test_deployments_on_one_server_do_not_share_keys(connection: redis.Redis) -> None:
    first, second = ApiKeys(connection, Keys("first:")), ApiKeys(connection, Keys("second:"))
    key = first.create("acme")
    assert first.verify(key) == "acme"
    assert second.verify(key) is None
    assert not second.webhook_secrets("acme")
    assert all(name.startswith(b"first:") for name in connection.scan_iter())


def test_only_the_first_key_of_a_name_creates_a_webhook_secret(keys: ApiKeys) -> None:
    keys.create("acme")
    (secret,) = keys.webhook_secrets("acme")
    keys.create("acme")
    assert keys.webhook_secrets("acme") == [secret]
    assert secret.startswith("whsec_")
    assert keys.webhook_secrets("other") == []


def test_a_replaced_webhook_secret_stays_valid_for_a_day(
    connection: redis.Redis,
) -> None:
    now = 1_790_000_000.0
    keys = ApiKeys(connection, clock=lambda: now)
    keys.create("acme")
    (old,) = keys.webhook_secrets("acme")
    new = keys.rotate_webhook_secret("acme")
    assert keys.webhook_secrets("acme") == [new, old]
    newest = keys.rotate_webhook_secret("acme")
    assert keys.webhook_secrets("acme") == [newest, new, old]

    now += SECRET_OVERLAP_S + 1
    assert keys.webhook_secrets("acme") == [newest]
    # The next rotation removes expired secrets from Redis.
    keys.rotate_webhook_secret("acme")
    assert len(keys.webhook_secrets("acme")) == 2


def test_a_name_without_keys_has_no_secret_to_rotate(keys: ApiKeys) -> None:
    with pytest.raises(InvalidInput, match="no key was ever created"):
        keys.rotate_webhook_secret("acme")
