"""The tools of the fault programme."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
import redis

from tests.faults.hosts import running_host
from tests.faults.load import leftovers
from tests.faults.processes import end_all, holds, processes_of, send
from tests.faults.proxy import Proxy, running_proxy
from tests.faults.verdict import Verdict


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with running_proxy(int(redis_url.rsplit(":", 1)[1].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy) -> Iterator[redis.Redis]:
    """One connection through the proxy, without reconnects."""
    with redis.Redis.from_url(proxy.url, single_connection_client=True, retry=None) as client:
        yield client


def test_a_proxy_passes_everything(through: redis.Redis) -> None:
    data = bytes(range(256)) * 10_000
    through.set("big", data)
    assert through.get("big") == data


def test_a_reset_reaches_both_sides(
    proxy: Proxy, through: redis.Redis, connection: redis.Redis
) -> None:
    through.ping()
    pair = socket.create_connection(("127.0.0.1", proxy.port))
    pair.sendall(b"PING\r\n")
    assert pair.recv(7) == b"+PONG\r\n"
    before = len(connection.client_list())
    proxy.reset_all()
    with pytest.raises(ConnectionResetError):
        pair.recv(1)
    pair.close()
    wait_for_clients(connection, before - 2)


def test_nothing_passes_a_partition_until_it_heals(
    proxy: Proxy, through: redis.Redis, connection: redis.Redis
) -> None:
    through.ping()
    proxy.partition()
    delayed = Thread(target=through.set, args=("delayed", 1))
    delayed.start()
    late = Thread(target=redis.Redis.from_url(proxy.url).set, args=("late", 1))
    late.start()
    time.sleep(0.3)
    assert not connection.exists("delayed", "late")
    proxy.heal()
    delayed.join(10)
    late.join(10)
    assert connection.exists("delayed", "late") == 2


def test_a_reset_loses_the_data_that_a_partition_delayed(
    proxy: Proxy, through: redis.Redis, connection: redis.Redis
) -> None:
    through.ping()
    proxy.partition()
    lost = Thread(target=fails, args=(through, "SET", "delayed", 1))
    lost.start()
    time.sleep(0.2)
    proxy.reset_all()
    proxy.heal()
    lost.join(10)
    time.sleep(0.1)
    assert not connection.exists("delayed")


def test_a_pattern_freezes_only_its_own_connection(
    proxy: Proxy, through: redis.Redis, connection: redis.Redis
) -> None:
    through.ping()
    proxy.freeze_when(b"HSET\r\n$7\r\nunacked")
    frozen = Thread(target=fails, args=(through, "HSET", "unacked", "a", "b"))
    frozen.start()
    assert proxy.froze.wait(10)
    with redis.Redis.from_url(proxy.url) as second:
        second.hset("unacked", "c", "d")
    proxy.reset_all()
    frozen.join(10)
    assert connection.hgetall("unacked") == {b"c": b"d"}


def test_a_proxy_answers_each_command_itself(proxy: Proxy, through: redis.Redis) -> None:
    through.ping()
    assert proxy.connections == 1
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    proxy.answer(loading)
    with pytest.raises(redis.exceptions.BusyLoadingError):
        through.ping()
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as pair:
        pair.sendall(b"*1\r\n$4\r\nPING\r\n" * 2)
        with pair.makefile("rb") as answers:
            assert answers.readline() == answers.readline() == loading
    proxy.answer(None)
    assert through.ping()


def test_a_proxy_survives_the_absence_of_its_target() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with running_proxy(nobody.getsockname()[1]) as proxy:
            with pytest.raises(redis.ConnectionError), redis.Redis.from_url(proxy.url) as client:
                client.ping()
            nobody.listen()
            with socket.create_connection(("127.0.0.1", proxy.port), 5) as pair:
                pair.sendall(b"hello")
                accepted, _ = nobody.accept()
                with accepted:
                    assert accepted.recv(5) == b"hello"


def test_a_slow_host_serves_every_picture_at_the_second_try_at_least() -> None:
    with running_host({"a.png": bytes(1000)}, seed=1) as host:
        assert fetch(host.address("a.png", 0)) == bytes(1000)
        host.slow = True
        started = time.monotonic()
        # With this seed the first request gets 503.
        url = host.address("a.png", 1)
        with pytest.raises(urllib.error.HTTPError, match="503") as raised:
            fetch(url)
        raised.value.close()
        assert fetch(url) == bytes(1000)
        assert time.monotonic() - started > 0.5


def test_every_wrong_result_is_reported() -> None:
    verdict = Verdict()
    verdict.compare("batch", ["a cat", "a dog"], {0: "a cat", 1: "a dog"})
    assert verdict.violations == []
    verdict.compare("batch", ["a cat", "a dog"], {0: "a dog", 2: "a cow"})
    assert verdict.violations == [
        "batch: item 0 is 'a dog', not 'a cat'",
        "batch: item 1 has no result",
        "batch: items that were never submitted: [2]",
    ]


def test_a_key_without_expiry_is_a_leftover(connection: redis.Redis) -> None:
    connection.set("expiring", 1, ex=100)
    connection.sadd("_kombu.binding.bulk", "bulk")
    assert leftovers(connection) == []
    connection.hset("unacked", "tag", "message")
    assert leftovers(connection) == ["unacked"]


def test_processes_of_a_run_directory_are_found_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "-Q", "bulk", "-n", "x"]
    environment = {**os.environ, "BLIPLINE_RUN_DIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            # A new process has neither its arguments nor its environment for a moment.
            assert holds(lambda: processes_of(tmp_path) == [process.pid], 10)
            assert processes_of(tmp_path, "bulk") == [process.pid]
            assert processes_of(tmp_path, "engine") == []
            assert send([process.pid], signal.SIGSTOP) == [process.pid]
            end_all(tmp_path, 0.2)
            assert processes_of(tmp_path) == []
        finally:
            process.kill()


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read()
    return body


def fails(client: redis.Redis, *command: str | int) -> None:
    with pytest.raises(redis.ConnectionError):
        client.execute_command(*command)


def wait_for_clients(connection: redis.Redis, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(connection.client_list()) > count:
        assert time.monotonic() < deadline, "Redis still holds the connections"
        time.sleep(0.01)
