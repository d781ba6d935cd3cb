"""`blipline keys`: who may use the gateway."""

from __future__ import annotations

import json

import pytest
import redis

from producer.cli.app import run
from producer.gateway.api_keys import ApiKeys, id_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)


@pytest.fixture
def keys(connection: redis.Redis) -> ApiKeys:
    return ApiKeys(connection)


def test_create_prints_the_key_alone_and_the_secret_beside_it(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "create", "acme"]) == 0
    out, err = capsys.readouterr()
    assert keys.verify(out.removesuffix("\n")) == "acme"
    assert err == f"blipline: webhooks of acme are signed with {keys.webhook_secrets('acme')[0]}\n"


def test_create_says_all_as_json(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "acme", "--json"]) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert keys.verify(made["key"]) == made["name"] == "acme"
    assert made["id"] == keys.list()[0].id
    assert [made["webhook_secret"]] == keys.webhook_secrets("acme")
    assert err == ""


def test_a_name_that_cannot_be_one_is_refused(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "create", "Acme Ltd."]) == 2
    assert capsys.readouterr().err.startswith("blipline: 'Acme Ltd.': a name has")
    assert not keys.list()


def test_list_shows_whose_keys_there_are_and_no_secret(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [keys.create(name) for name in ("acme", "other", "acme")]
    assert run(["keys", "list"]) == 0
    out, err = capsys.readouterr()
    columns = [line.split("\t") for line in out.splitlines()]
    assert [(key_id, name) for key_id, name, _ in columns] == [
        (id_of(key), name) for key, name in zip(made, ("acme", "other", "acme"), strict=True)
    ]
    assert run(["keys", "list", "--json"]) == 0
    more = capsys.readouterr().out
    assert [set(json.loads(line)) for line in more.splitlines()] == [
        {"id", "name", "created_at"}
    ] * 3
    for key in made:
        assert key.rpartition("_")[2] not in out + err + more
        assert keys.list()[0].digest not in out + more


def test_without_keys_list_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list"]) == 0
    assert capsys.readouterr() == ("", "blipline: no keys: `blipline keys create NAME` makes one\n")


def test_revoke_takes_an_id_or_a_name(keys: ApiKeys, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, other = (keys.create(name) for name in ("acme", "acme", "other"))
    assert run(["keys", "revoke", id_of(old) or ""]) == 0
    assert [keys.verify(key) for key in (old, new, other)] == [None, "acme", "other"]
    assert run(["keys", "revoke", "--name", "acme", "--json"]) == 0
    assert [keys.verify(key) for key in (old, new, other)] == [None, None, "other"]
    assert capsys.readouterr().out == '1\n{"keys": 1}\n'


@pytest.mark.parametrize("arguments", [[], ["0" * 12, "--name", "acme"]])
def test_revoke_wants_an_id_or_a_name(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "revoke", *arguments]) == 2
    assert "one of both" in capsys.readouterr().err


def test_revoking_what_is_not_there_is_an_error_that_shows_no_key(
    keys: ApiKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys.create("acme")
    assert run(["keys", "revoke", key]) == 0
    assert run(["keys", "revoke", key]) == 2
    assert run(["keys", "revoke", "--name", "nobody"]) == 2
    err = capsys.readouterr().err
    assert key.rpartition("_")[2] not in err
    assert f"{id_of(key)}: there is no such key" in err
    assert "nobody: there is no such key" in err


def test_webhook_secret_prints_the_newest_and_makes_another(
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


@pytest.mark.parametrize("more", [[], ["--rotate"]])
def test_who_never_had_a_key_has_no_webhook_secret(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "webhook-secret", "nobody", *more]) == 2
    assert capsys.readouterr().err == "blipline: 'nobody': no key was ever made for this name\n"


def test_without_redis_they_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_REDIS_URL", "redis://:s3cret@127.0.0.1:1/0")
    assert run(["keys", "list"]) == 3
    assert "s3cret" not in capsys.readouterr().err
