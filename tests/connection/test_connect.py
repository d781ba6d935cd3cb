"""Connections: URLs, redaction, error messages, retries and failover."""

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
def test_a_url_is_parsed(url: str, address: Address) -> None:
    assert Address.parse(url) == address


def test_certificate_options_name_existing_files(tmp_path: Path) -> None:
    authority = tmp_path / "the ca.pem"
    authority.touch()
    address = Address.parse(f"rediss://host?ssl_ca_certs={tmp_path}/the%20ca.pem")
    assert address.tls == {
        "ssl_ca_certs": str(authority),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost", "must look like redis://"),
        ("redis:///0", "must look like redis://"),
        ("http://host", "or sentinel://"),
        ("unix:///run/redis.sock", "must look like redis://"),
        ("redis://host/three", "must look like redis://"),
        ("redis://host:port", "'host:port' is not a host and port"),
        ("redis://host:99999", "'host:99999' is not a host and port"),
        ("redis://::1:6379", "needs brackets"),
        ("sentinel://one,,two", "'' is not a host and port"),
        ("redis://one,two", "sentinel:// takes several"),
        ("redis://host?timeout=3", "redis://host: it takes no options, not 'timeout'"),
        ("redis://host?ssl_ca_certs=/ca.pem", "takes no options"),
        ("sentinel://one?sentinel_pasword=x", "it takes master, sentinel_username"),
        ("rediss://host?ssl_ca_certs=/no/such.pem", "ssl_ca_certs='/no/such.pem': there is no"),
        ("rediss://host?ssl_cert_reqs=maybe", "choose required, optional or none"),
        ("rediss://host?ssl_check_hostname=maybe", "choose true or false"),
    ],
)
def test_an_invalid_url_is_rejected_with_the_setting_and_the_reason(url: str, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        ClientSettings.load(redis_url=url)
    assert message in str(raised.value)
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
def test_a_password_is_redacted(url: str, shown: str) -> None:
    assert redact_password(url) == shown


def test_a_password_in_an_invalid_url_is_redacted() -> None:
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
def test_an_invalid_prefix_is_rejected_with_the_setting_and_the_reason(prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"BLIPLINE_KEY_PREFIX=.*at most 64 characters"):
        ClientSettings.load(key_prefix=prefix)


def test_an_unreachable_redis_is_an_error_with_the_remedy() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(ConnectionFailed) as raised, redis_errors(url), connect(url) as client:
        client.ping()
    assert "127.0.0.1" in str(raised.value)
    assert "Is it running" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_unreachable_sentinels_are_an_error_with_the_master_name() -> None:
    url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/0?master=main"
    with (
        pytest.raises(ConnectionFailed, match="no master 'main': Error 111"),
        Client(url) as client,
    ):
        client.job("1").status()


def test_a_wrong_password_is_an_error_without_retries(redis_url: str) -> None:
    url = redis_url.replace("://", "://ann:wrong@")
    # A patient client retries an unreachable server for ten minutes.
    with (
        pytest.raises(ConnectionFailed, match="password"),
        redis_errors(url),
        connect(url, patient=True) as client,
    ):
        client.ping()


@pytest.mark.parametrize("by", ["command", "script", "pipeline"])
def test_a_patient_client_outlasts_a_server_that_is_a_replica_for_a_while(
    redis_url: str, connection: redis.Redis, by: str
) -> None:
    """The same holds without sentinels, where a name moves to another server."""
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


def test_a_command_in_flight_when_the_master_dies_is_sent_to_the_next_master(
    tmp_path: Path,
) -> None:
    with (
        running_sentinels(tmp_path, sentinel_password="s&=+") as servers,
        connect(servers.url, patient=True) as client,
    ):
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(client.blpop(["list"], 30)))
        thread.start()
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "a command on its way")
        servers.kill_master()
        # The remaining sentinels answer.
        servers.sentinels[0].kill()
        client.rpush("list", "at last")
        thread.join(20)
        assert answers == [(b"list", b"at last")]


def test_concurrent_threads_lose_no_sentinel(tmp_path: Path) -> None:
    with running_sentinels(tmp_path) as servers, connect(servers.url, patient=True) as client:
        servers.sentinels[0].kill()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: client.ping(), range(64)))
        manager: Any = client.connection_pool
        ports = {
            sentinel.connection_pool.connection_kwargs["port"]
            for sentinel in manager.sentinel_manager.sentinels
        }
        assert ports == {sentinel.port for sentinel in servers.sentinels}


def test_a_patient_client_waits_for_a_server_to_start() -> None:
    port = free_port()
    answers: list[bool] = []
    with connect(f"redis://127.0.0.1:{port}/0", patient=True) as client:
        thread = threading.Thread(target=lambda: answers.append(bool(client.ping())))
        thread.start()
        with running_redis(port):
            thread.join(20)
    assert answers == [True]


def test_a_client_serves_a_process_that_was_forked(redis_url: str) -> None:
    with connect(redis_url) as client:
        client.set("who", "parent")
        child = os.fork()
        if child == 0:
            os._exit(0 if client.set("who", "child") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get("who") == b"child"
