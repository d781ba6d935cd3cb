"""Eviction: a Redis that may delete queued jobs is refused, in each process and for each policy."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from demo.stack import ROOT, free_port, running_redis
from producer import Client, InvalidInput
from producer.connection.eviction import check_eviction, check_reachable_redis, read_policy

EVICTING = ("allkeys-lru", "allkeys-lfu", "allkeys-random")
VOLATILE = ("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
URL = "https://images.example.com/cat.jpg"


@pytest.fixture(scope="module")
def private_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def private(private_url: str) -> Iterator[redis.Redis]:
    """A Redis of its own, whose policy a test may change."""
    with redis.Redis.from_url(private_url) as connection:
        connection.config_set("maxmemory-policy", "noeviction")
        yield connection


@pytest.mark.parametrize("policy", EVICTING)
def test_a_policy_that_evicts_jobs_is_an_error_with_the_remedy(
    private: redis.Redis, private_url: str, policy: str
) -> None:
    private.config_set("maxmemory-policy", policy)
    with pytest.raises(InvalidInput, match=f"{policy} deletes queued jobs.*noeviction"):
        check_eviction(private, private_url)


@pytest.mark.parametrize("policy", VOLATILE)
def test_a_policy_that_evicts_results_is_a_warning(
    private: redis.Redis, private_url: str, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    private.config_set("maxmemory-policy", policy)
    check_eviction(private, private_url)
    assert f"{policy} deletes results and uploaded images early" in caplog.text


def test_noeviction_is_silent(
    private: redis.Redis, private_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_eviction(private, private_url)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("rights", "is_known"),
    [
        ("+@all -config", True),
        ("+@all -info", True),
        ("+@all -config -info", False),
    ],
)
def test_either_command_shows_the_policy_and_without_both_there_is_a_warning(
    private: redis.Redis,
    private_url: str,
    caplog: pytest.LogCaptureFixture,
    rights: str,
    is_known: bool,
) -> None:
    private.execute_command(
        "ACL", "SETUSER", "ann", "reset", "on", ">x", "~*", "&*", *rights.split()
    )
    private.config_set("maxmemory-policy", "allkeys-lru")
    url = private_url.replace("://", "://ann:x@")
    with redis.Redis.from_url(url) as connection:
        assert read_policy(connection) == ("allkeys-lru" if is_known else None)
        if is_known:
            with pytest.raises(InvalidInput):
                check_eviction(connection, url)
        else:
            check_eviction(connection, url)
            assert "neither with INFO nor with CONFIG GET" in caplog.text
            assert "ann:x@" not in caplog.text


def test_an_unreachable_redis_is_checked_later() -> None:
    check_reachable_redis(f"redis://127.0.0.1:{free_port()}/0")


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "worker"],
        ["-m", "celery", "-A", "worker.celery_app", "worker", "-P", "threads", "-c", "1"],
        ["-m", "producer.cli", "gateway", "--port", "0"],
    ],
    ids=["worker", "consumer", "gateway"],
)
def test_a_process_refuses_to_start(
    private: redis.Redis, private_url: str, command: list[str]
) -> None:
    private.config_set("maxmemory-policy", "allkeys-lru")
    ended = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "BLIPLINE_REDIS_URL": private_url, "BLIPLINE_MODEL": "null"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2, ended.stderr
    assert "allkeys-lru deletes queued jobs" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_client_warns_once_of_a_policy_that_changes_while_it_runs(
    private: redis.Redis,
    private_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producer.ledger.redis_memory.READ_INTERVAL_S", 0.0)
    caplog.set_level(logging.WARNING)
    with Client(private_url) as client:
        client.caption(URL)
        assert caplog.text == ""
        private.config_set("maxmemory-policy", "allkeys-lru")
        for _ in range(3):
            client.caption(URL)
        assert caplog.text.count("deletes queued jobs") == 1
