"""Where Redis is, how it is written, and what is said when it cannot be reached."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from demo.stack import free_port, running_redis
from producer import Client, ConnectionFailed, InvalidInput
from producer.connection.connect import connect, redis_errors
from producer.connection.url import Address, redact_password
from producer.settings import ClientSettings
from tests.redis_servers import running_sentinels, wait_until


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address((("host", 6379),))),
        ("redis://host:7000/3", Address((("host", 7000),), 3)),
        ("redis://10.0.0.5/", Address((("10.0.0.5", 6379),))),
        ("redis://[::1]:7000/3", Address((("::1", 7000),), 3)),
        ("redis://:secret@host", Address((("host", 6379),), password="secret")),
        ("redis://ann@host", Address((("host", 6379),), username="ann")),
        (
            "redis://an%40n:a%2Fb%3Fc%23d%25e+f@host/1",
            Address((("host", 6379),), 1, "an@n", "a/b?c#d%e+f"),
        ),
        ("redis://ann:a:b@c@host", Address((("host", 6379),), username="ann", password="a:b@c")),
        (
            "rediss://host:7000",
            Address(
                (("host", 7000),), tls={"ssl_cert_reqs": "required", "ssl_check_hostname": True}
            ),
        ),
        (
            "rediss://host?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false",
            Address((("host", 6379),), tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ),
        ("sentinel://one", Address((("one", 26379),), master="mymaster")),
        (
            "sentinel://ann:p%40w@one:1,[fe80::1]:2,[::1],four/5?master=main"
            "&sentinel_username=bob&sentinel_password=q%26r+s",
            Address(
                (("one", 1), ("fe80::1", 2), ("::1", 26379), ("four", 26379)),
                5,
                "ann",
                "p@w",
                master="main",
                sentinel_username="bob",
                sentinel_password="q&r+s",
            ),
        ),
        (
            "sentinels://one,two",
            Address(
                (("one", 26379), ("two", 26379)),
                tls={"ssl_cert_reqs": "required", "ssl_check_hostname": True},
                master="mymaster",
            ),
        ),
    ],
)
def test_a_url_is_read_as_what_it_says(url: str, address: Address) -> None:
    assert Address.parse(url) == address


def test_certificates_are_named_by_their_files(tmp_path: Path) -> None:
    authority = tmp_path / "the ca.pem"
    authority.touch()
    found = Address.parse(f"rediss://host?ssl_ca_certs={tmp_path}/the%20ca.pem")
    assert found.tls == {
        "ssl_ca_certs": str(authority),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


@pytest.mark.parametrize(
    ("url", "about"),
    [
        ("localhost", "must look like redis://"),
        ("redis:///0", "must look like redis://"),
        ("http://host", "or sentinel://"),
        ("unix:///run/redis.sock", "must look like redis://"),
        ("redis://host/three", "must look like redis://"),
        ("redis://host:port", "'host:port' is no host and port"),
        ("redis://host:99999", "'host:99999' is no host and port"),
        ("redis://::1:6379", "is in brackets"),
        ("sentinel://one,,two", "'' is no host and port"),
        ("redis://one,two", "sentinel:// takes several"),
        ("redis://host?timeout=3", "redis://host: it takes no options, and not 'timeout'"),
        ("redis://host?ssl_ca_certs=/ca.pem", "takes no options"),
        ("sentinel://one?sentinel_pasword=x", "it takes master, sentinel_username"),
        ("rediss://host?ssl_ca_certs=/no/such.pem", "ssl_ca_certs='/no/such.pem': there is no"),
        ("rediss://host?ssl_cert_reqs=maybe", "choose required, optional or none"),
        ("rediss://host?ssl_check_hostname=maybe", "choose true or false"),
    ],
)
def test_a_wrong_url_is_refused_in_a_sentence(url: str, about: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        ClientSettings.load(redis_url=url)
    assert about in str(raised.value)
    assert str(raised.value).startswith("BLIPLINE_REDIS_URL=")
    with pytest.raises(InvalidInput):
        connect(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://ann@[::1]:6379/0", "redis://***@[::1]:6379/0"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://ann:s%40cret@[::1]:1/0", "redis://ann:***@[::1]:1/0"),
        ("redis://ann:s@c/r?e#t:@host", "redis://ann:***@host"),
        (
            "sentinels://ann:secret@one:1,two:2/0?master=m&sentinel_password=secret&ssl_keyfile=k",
            "sentinels://ann:***@one:1,two:2/0?master=m&sentinel_password=***&ssl_keyfile=k",
        ),
        ("sentinel://one?sentinel_password=s@cret", "sentinel://one?sentinel_password=***"),
        ("redis://one?password=secret", "redis://one?password=***"),
        (
            "sentinel://:secret@one;sentinel://:secret@two",
            "sentinel://:***@two",
        ),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redact_password(url) == shown


def test_a_password_in_a_wrong_url_is_not_shown_either() -> None:
    for url in ("redis://ann:secret@host:port", "redis://ann:sec/secret@host", "x://a:secret@h"):
        with pytest.raises(InvalidInput) as raised:
            ClientSettings.load(redis_url=url)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("prefix", ["", "captions:", "a.b_c-", "A-1:", "x" * 63 + ":"])
def test_a_prefix_begins_every_key(prefix: str) -> None:
    assert ClientSettings.load(key_prefix=prefix).key_prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["two words:", "glob*:", "captions", "é:", "x" * 64 + ":", "a\n"]
)
def test_a_wrong_prefix_is_refused_in_a_sentence(prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"BLIPLINE_KEY_PREFIX=.*at most 64 characters"):
        ClientSettings.load(key_prefix=prefix)


def test_nobody_there_is_said_with_the_remedy() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(ConnectionFailed) as raised, redis_errors(url), connect(url) as client:
        client.ping()
    assert "127.0.0.1" in str(raised.value)
    assert "Is it running" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_no_sentinel_there_is_said_with_the_name_of_the_master() -> None:
    url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/0?master=main"
    with (
        pytest.raises(ConnectionFailed, match="no master 'main': Error 111"),
        Client(url) as client,
    ):
        client.job("1").status()


def test_a_wrong_password_is_said_and_not_tried_again(redis_url: str) -> None:
    url = redis_url.replace("://", "://ann:wrong@")
    # A patient one would take ten minutes over a server that is away.
    with (
        pytest.raises(ConnectionFailed, match="password"),
        redis_errors(url),
        connect(url, patient=True) as client,
    ):
        client.ping()


@pytest.mark.parametrize("by", ["command", "script", "pipeline"])
def test_a_patient_client_outlasts_a_server_that_is_a_replica_for_a_time(
    redis_url: str, connection: redis.Redis, by: str
) -> None:
    """Also without sentinels, where a name moves to another server."""
    connection.replicaof("127.0.0.1", str(free_port()))
    back = threading.Timer(0.5, connection.replicaof, ["NO", "ONE"])
    back.start()
    try:
        with connect(redis_url, patient=True) as client:
            if by == "command":
                client.set("key", 1)
            elif by == "script":
                client.register_script("redis.call('SET', KEYS[1], 1)")(keys=["key"])
            else:
                client.pipeline(transaction=False).get("key").set("key", 1).execute()
    finally:
        back.join()
    assert connection.get("key") == b"1"


def test_a_command_that_is_on_its_way_when_the_master_dies_goes_to_the_next(
    tmp_path: Path,
) -> None:
    with (
        running_sentinels(tmp_path, sentinel_password="s&=+") as found,
        connect(found.url, patient=True) as client,
    ):
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(client.blpop(["list"], 30)))
        thread.start()
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "a command on its way")
        found.kill_master()
        # And one sentinel less: the others are asked.
        found.sentinels[0].kill()
        client.rpush("list", "at last")
        thread.join(20)
        assert answers == [(b"list", b"at last")]


def test_no_sentinel_is_forgotten_by_threads_that_ask_at_once(tmp_path: Path) -> None:
    with running_sentinels(tmp_path) as found, connect(found.url, patient=True) as client:
        found.sentinels[0].kill()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: client.ping(), range(64)))
        manager: Any = client.connection_pool
        ports = {
            one.connection_pool.connection_kwargs["port"]
            for one in manager.sentinel_manager.sentinels
        }
        assert ports == {one.port for one in found.sentinels}


def test_a_patient_client_waits_for_a_server_that_comes_later() -> None:
    port = free_port()
    found: list[bool] = []
    with connect(f"redis://127.0.0.1:{port}/0", patient=True) as client:
        thread = threading.Thread(target=lambda: found.append(bool(client.ping())))
        thread.start()
        with running_redis(port):
            thread.join(20)
    assert found == [True]


def test_a_client_serves_a_process_that_was_forked(redis_url: str) -> None:
    with connect(redis_url) as client:
        client.set("who", "parent")
        child = os.fork()
        if child == 0:
            os._exit(0 if client.set("who", "child") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get("who") == b"child"
