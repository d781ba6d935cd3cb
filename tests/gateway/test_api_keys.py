"""API keys and webhook secrets, in a real Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import redis

from producer.errors import InvalidInput
from producer.gateway.api_keys import SECRET_OVERLAP_S, ApiKeys, key_id_of
from producer.ledger.keys import Keys


@pytest.fixture
def keys(connection: redis.Redis) -> ApiKeys:
    return ApiKeys(connection)


def everything(connection: redis.Redis) -> bytes:
    """All values that Redis holds."""
    return b"".join(connection.dump(key) for key in connection.scan_iter())


def test_a_key_stands_for_the_name_that_it_was_made_for(keys: ApiKeys) -> None:
    key = keys.create("acme")
    assert keys.verify(key) == "acme"
    assert key_id_of(key) == keys.list()[0].id


def test_a_name_may_have_several_keys_and_each_is_revoked_alone(keys: ApiKeys) -> None:
    old, new = keys.create("acme"), keys.create("acme")
    assert keys.revoke(key_id_of(old) or "")
    assert (keys.verify(old), keys.verify(new)) == (None, "acme")
    assert not keys.revoke(key_id_of(old) or "")


def test_a_key_is_revoked_by_itself_too(keys: ApiKeys) -> None:
    key = keys.create("acme")
    assert keys.revoke(key)
    assert keys.verify(key) is None


def test_all_keys_of_a_name_are_revoked_and_no_other(keys: ApiKeys) -> None:
    acme, other = [keys.create("acme") for _ in range(3)], keys.create("other")
    assert keys.revoke_all("acme") == 3
    assert [keys.verify(key) for key in acme] == [None] * 3
    assert keys.verify(other) == "other"
    assert keys.revoke_all("acme") == 0


def test_redis_holds_no_key(keys: ApiKeys, connection: redis.Redis) -> None:
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
def test_what_is_nearly_a_key_lets_nobody_in(keys: ApiKeys, change: Callable[[str], str]) -> None:
    assert keys.verify(change(keys.create("acme"))) is None


def test_the_key_of_one_id_does_not_go_with_another(keys: ApiKeys) -> None:
    first, second = keys.create("acme"), keys.create("other")
    assert keys.verify(first[:18] + second[18:]) is None


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "-a", "a" * 33, "a b", "a\n", "ä", "a_b"])
def test_a_name_that_could_be_part_of_anothers_ids_is_refused(keys: ApiKeys, name: str) -> None:
    with pytest.raises(InvalidInput, match="a name has 1 to 32"):
        keys.create(name)
    assert not keys.list()


def test_deployments_on_one_server_do_not_share_keys(connection: redis.Redis) -> None:
    one, two = ApiKeys(connection, Keys("one:")), ApiKeys(connection, Keys("two:"))
    key = one.create("acme")
    assert one.verify(key) == "acme"
    assert two.verify(key) is None
    assert not two.webhook_secrets("acme")
    assert all(name.startswith(b"one:") for name in connection.scan_iter())


def test_the_first_key_comes_with_a_webhook_secret_and_the_next_do_not(keys: ApiKeys) -> None:
    keys.create("acme")
    (secret,) = keys.webhook_secrets("acme")
    keys.create("acme")
    assert keys.webhook_secrets("acme") == [secret]
    assert secret.startswith("whsec_")
    assert keys.webhook_secrets("other") == []


def test_an_old_webhook_secret_signs_for_a_day_beside_the_new_one(
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
    # What is no longer valid is gone from Redis with the next one.
    keys.rotate_webhook_secret("acme")
    assert len(keys.webhook_secrets("acme")) == 2


def test_a_secret_of_a_name_without_keys_cannot_be_replaced(keys: ApiKeys) -> None:
    with pytest.raises(InvalidInput, match="no key was ever made"):
        keys.rotate_webhook_secret("acme")
