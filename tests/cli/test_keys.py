"""`blipline keys`."""

from __future__ import annotations

import json

import pytest
import redis

from producer.cli.app import run
from producer.gateway.access.api_keys import ApiKeys, key_id_of
from producer.gateway.access.daily_quotas import DailyQuotas
from producer.gateway.access.key_policy import KeyPolicy
from producer.ledger.keys import Keys


@pytest.fixture
def keys(connection: redis.Redis) -> ApiKeys:
    return ApiKeys(connection)


def test_create_prints_the_key_on_stdout_and_the_secret_on_stderr(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "create", "acme"]) == 0
    out, err = capsys.readouterr()
    assert keys.verify(out.removesuffix("\n")) == "acme"
    assert err == f"blipline: webhooks of acme are signed with {keys.webhook_secrets('acme')[0]}\n"


def test_a_key_can_be_created_without_private_images(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "create", "acme", "--no-private-images"]) == 0
    assert run(["keys", "create", "acme"]) == 0
    created = [keys.find(key) for key in capsys.readouterr().out.split()]
    assert [key is not None and key.policy.private_images for key in created] == [False, True]


def test_create_prints_both_as_json(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "acme", "--json"]) == 0
    out, err = capsys.readouterr()
    created = json.loads(out)
    assert keys.verify(created["key"]) == created["name"] == "acme"
    assert created["id"] == keys.list()[0].id
    assert [created["webhook_secret"]] == keys.webhook_secrets("acme")
    assert err == ""


def test_an_invalid_name_is_rejected(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "Acme Ltd."]) == 2
    assert capsys.readouterr().err.startswith("blipline: 'Acme Ltd.': a name has")
    assert not keys.list()


def test_list_prints_the_names_of_keys_and_no_secret(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("acme", "globex", "acme")
    created = [keys.create(name) for name in names]
    assert run(["keys", "list"]) == 0
    out, err = capsys.readouterr()
    columns = [line.split("\t") for line in out.splitlines()]
    assert [(key_id, name) for key_id, name, _ in columns] == [
        (key_id_of(key), name) for key, name in zip(created, names, strict=True)
    ]
    assert run(["keys", "list", "--json"]) == 0
    json_out = capsys.readouterr().out
    assert [set(json.loads(line)) for line in json_out.splitlines()] == [
        {"id", "name", "created_at", "private_images"}
    ] * 3
    for key in created:
        assert key.rpartition("_")[2] not in out + err + json_out
        assert keys.list()[0].digest not in out + json_out


def test_list_shows_which_keys_may_not_name_private_images(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.create("acme", KeyPolicy(image_prefixes=()))
    assert run(["keys", "list"]) == 0
    assert capsys.readouterr().out.endswith("\tno-private-images\n")
    assert run(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["private_images"] is False


def test_limits_of_a_key_are_shown(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scope", "read", "--task", "caption", "--expires", "2h", "--rate", "60"]
    assert run(["keys", "create", "acme", *options]) == 0
    key = capsys.readouterr().out.strip()
    (stored,) = keys.list()
    expires_at = stored.policy.expires_at or 0.0
    assert expires_at == pytest.approx(stored.created_at + 7200, abs=5)
    limits = {"scopes": ["read"], "tasks": ["caption"], "expires_at": expires_at, "rate": 60}
    for name in (key, stored.id):
        assert run(["keys", "show", name, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert {field: shown[field] for field in limits} == limits
    assert run(["keys", "show", key]) == 0
    assert "limit\tscopes=read\nlimit\ttasks=caption\nlimit\texpires=" in capsys.readouterr().out
    assert run(["keys", "list"]) == 0
    assert capsys.readouterr().out.endswith("\trate=60/min\n")
    assert run(["keys", "show", "0" * 12]) == 2
    assert "no such key" in capsys.readouterr().err


def test_limits_of_a_key_are_changed_one_by_one(
    keys: ApiKeys, connection: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys.create("acme", KeyPolicy(tasks=("caption",), rate=60))
    options = ["--items-per-day", "5000", "--image-prefix", "file:cats", "--clear", "rate"]
    assert run(["keys", "limit", key, *options]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "limit\ttasks=caption",
        "limit\timage-prefixes=file:cats/",
        "limit\titems=5000/day",
    ]
    stored = keys.find(key)
    assert stored is not None
    assert stored.policy == KeyPolicy(
        tasks=("caption",), image_prefixes=("file:cats/",), items_per_day=5000
    )
    DailyQuotas(connection, Keys(), "").take(stored.id, "items", 7, 5000)
    assert run(["keys", "show", stored.id, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["used_today"], shown["private_images"]) == ({"items": 7}, True)
    clear = ["--clear", "image-prefix", "--clear", "task", "--clear", "items-per-day"]
    assert run(["keys", "limit", stored.id, *clear, "--no-private-images", "--json"]) == 2
    assert "image_prefixes: set it, or clear it" in capsys.readouterr().err
    assert run(["keys", "limit", stored.id, *clear]) == 0
    assert capsys.readouterr().out.endswith("limit\tno limits of its own\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give a limit, or --clear"),
        (["--rate", "5", "--clear", "rate"], "rate: set it, or clear it"),
        (["--image-prefix", "https://x/"], "file:folder/, s3://bucket/"),
        (["--image-prefix", "s3://b/", "--no-private-images"], "--no-private-images denies"),
        (["--rate", "5"], "no such key"),
    ],
)
def test_an_invalid_change_of_limits_names_the_remedy(
    options: list[str], message: str, keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "limit", "0" * 12, *options]) == 2
    assert message in capsys.readouterr().err
    assert not keys.list()


@pytest.mark.parametrize("text", ["", "0d", "5", "1w", "-1d", "1.5h"])
def test_an_invalid_expiry_is_rejected(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert run(["keys", "create", "acme", "--expires", text]) == 2
    assert "30d, 12h, 90m" in capsys.readouterr().err
    assert not keys.list()


def test_without_keys_list_prints_how_to_create_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list"]) == 0
    assert capsys.readouterr() == (
        "",
        "blipline: no keys: `blipline keys create NAME` creates one\n",
    )


def test_revoke_takes_an_id_or_a_name(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, globex = (keys.create(name) for name in ("acme", "acme", "globex"))
    assert run(["keys", "revoke", key_id_of(old) or ""]) == 0
    assert [keys.verify(key) for key in (old, new, globex)] == [None, "acme", "globex"]
    assert run(["keys", "revoke", "--name", "acme", "--json"]) == 0
    assert [keys.verify(key) for key in (old, new, globex)] == [None, None, "globex"]
    assert capsys.readouterr().out == '1\n{"keys": 1}\n'


@pytest.mark.parametrize("arguments", [[], ["0" * 12, "--name", "acme"]])
def test_revoke_needs_either_an_id_or_a_name(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "revoke", *arguments]) == 2
    assert "give either an id" in capsys.readouterr().err


def test_revoking_an_unknown_key_is_an_error_without_the_key(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys.create("acme")
    assert run(["keys", "revoke", key]) == 0
    assert run(["keys", "revoke", key]) == 2
    assert run(["keys", "revoke", "--name", "nobody"]) == 2
    err = capsys.readouterr().err
    assert key.rpartition("_")[2] not in err
    assert f"{key_id_of(key)}: no such key" in err
    assert "nobody: no such key" in err


def test_webhook_secret_prints_the_newest_and_creates_another(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.create("acme")
    (old,) = keys.webhook_secrets("acme")
    assert run(["keys", "webhook-secret", "acme"]) == 0
    assert run(["keys", "webhook-secret", "acme", "--rotate"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == old != second
    assert keys.webhook_secrets("acme") == [second, old]
    assert run(["keys", "webhook-secret", "acme", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "acme",
        "webhook_secrets": [second, old],
    }


@pytest.mark.parametrize("arguments", [[], ["--rotate"]])
def test_a_name_without_a_key_has_no_webhook_secret(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "webhook-secret", "nobody", *arguments]) == 2
    assert capsys.readouterr().err == "blipline: 'nobody': no key was ever created for this name\n"


def test_without_redis_the_error_hides_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", "redis://:s3cret@127.0.0.1:1/0")
    assert run(["keys", "list"]) == 3
    assert "s3cret" not in capsys.readouterr().err
