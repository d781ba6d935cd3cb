"""Outages: calls, waits and submissions of both clients continue after a restart of Redis."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis

from demo.stack import free_port
from producer import AsyncClient, Client, ConnectionFailed, WaitTimeout
from producer.connection.connect import connect, redis_errors
from producer.connection.outage import QUICK_RETRIES, Outage, is_retryable_error, outage_limit
from producer.contract import State
from producer.ledger.keys import Keys
from producer.ledger.leases import Leases
from producer.settings import ClientSettings
from tests.batch_items import urls
from tests.redis_servers import Server

URL = "https://images.example.com/cat.jpg"
KEYS = Keys()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Between two writes per second, a kill would lose accepted jobs.
    server = Server(tmp_path_factory.mktemp("redis"), "appendfsync always")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(module_server: Server) -> Server:
    """A Redis with persistence, which a test may kill and start."""
    with module_server.connect() as connection:
        connection.flushall()
    return module_server


@pytest.fixture
def settings(server: Server) -> ClientSettings:
    return ClientSettings(redis_url=f"redis://127.0.0.1:{server.port}/0")


@contextmanager
def away(server: Server, seconds: float = 0.5) -> Iterator[None]:
    """Kill a server, and start it again while the block runs."""
    server.kill()
    start = threading.Timer(seconds, server.start)
    start.start()
    try:
        yield
    finally:
        start.join()


def answer(server: Server, job_id: str) -> None:
    """Store the result of a job as a worker does."""
    with server.connect() as connection:
        result = '{"status": "SUCCESS", "result": [{"text": "a cat"}]}'
        Leases(connection).finish(job_id, result, 0)


CALLS: dict[str, Callable[[Client], Any]] = {
    "submit": lambda client: client.submit(URL, job_id="job-2").status(),
    "upload": lambda client: client.upload(b"a picture"),
    "status": lambda client: client.job("job-1").status(),
    "look": lambda client: client.job("job-1").look(),
    "wait": lambda client: client.job("job-1").result(60),
    "cancel": lambda client: client.job("job-1").cancel(),
    "depth": lambda client: client.depth(),
    "dead": lambda client: list(client.dead),
    "progress": lambda client: client.batch("batch-1").progress(),
    "page": lambda client: client.batch("batch-1").page(),
    "results": lambda client: next(client.batch("batch-1").results(60)),
    "delete": lambda client: client.batch("batch-2").delete(),
}


def test_every_call_continues_after_a_restart(server: Server, settings: ClientSettings) -> None:
    with Client(settings=settings) as client, ThreadPoolExecutor(len(CALLS)) as threads:
        client.submit(URL, job_id="job-1")
        client.submit_batch([URL], batch_id="batch-1")
        client.submit_batch([URL], batch_id="batch-2")
        for job_id in ("job-1", "batch-1:0"):
            answer(server, job_id)
        with away(server):
            for call in [threads.submit(call, client) for call in CALLS.values()]:
                call.result()


def test_asynchronous_calls_continue_after_a_restart(
    server: Server, settings: ClientSettings
) -> None:
    async def work() -> None:
        async with AsyncClient(settings=settings) as client:
            waited = await client.submit(URL, job_id="job-1")
            batch = await client.submit_batch(urls(3), batch_id="batch-1")
            results = batch.results(60)
            wait = asyncio.gather(waited.result(60), anext(results), waited.look(60))
            await asyncio.sleep(0.1)
            with away(server):
                job = await client.submit(URL, job_id="job-2")
                assert await job.status() is State.QUEUED
                assert (await job.look())[0] is State.QUEUED
                assert (await batch.progress()).total == 3
                assert (await client.upload(b"a picture")).startswith("blob:")
            for job_id in ("job-1", "batch-1:0"):
                await asyncio.to_thread(answer, server, job_id)
            text, first, look = await wait
            assert (text, first.text, look[0]) == ("a cat", "a cat", State.DONE)

    asyncio.run(work())


@pytest.mark.parametrize("pause_s", [0.0, 0.2])
def test_a_submission_that_redis_leaves_at_many_points_is_complete_and_enters_once(
    server: Server, settings: ClientSettings, pause_s: float
) -> None:
    over, restarts, generator = threading.Event(), [], random.Random(pause_s)

    def restart() -> None:
        while not over.wait(generator.uniform(0.0, 0.05)):
            server.kill()
            time.sleep(pause_s)
            server.start()
            restarts.append(1)

    def items() -> Iterator[str]:
        for number, url in enumerate(urls(700)):
            yield url
            if number == 100:
                thread.start()
        while len(restarts) < 3 and thread.is_alive():
            yield URL

    seen: list[int] = []
    thread = threading.Thread(target=restart)
    try:
        with Client(settings=settings) as client:
            client.submit_batch(
                items(), batch_id="nightly", chunk_items=7, on_submitted=seen.append
            )
    finally:
        over.set()
        thread.join()
    with server.connect() as connection:
        total, chunks = seen[-1], -(-seen[-1] // 7)
        assert int(connection.hget(KEYS.batch("nightly"), "total") or 0) == total
        opened: Any = connection.zrange(KEYS.open, 0, -1)
        assert sorted(opened) == sorted(f"nightly:{n}".encode() for n in range(chunks))
        assert connection.exists(*(KEYS.record(f"nightly:{n}") for n in range(chunks))) == chunks
        assert connection.hget(KEYS.depth, "bulk") == str(total).encode()
        assert connection.llen("bulk") == 16
    assert seen == sorted(seen)


@pytest.mark.parametrize("scheme", ["redis", "sentinel"])
def test_a_redis_that_never_answered_is_an_error_at_once(scheme: str) -> None:
    """With the first answer outstanding, a day's limit does not count."""
    settings = ClientSettings(redis_url=f"{scheme}://127.0.0.1:{free_port()}", redis_wait_s=86_400)
    with Client(settings=settings) as client, pytest.raises(ConnectionFailed, match="correct"):
        client.depth()


def test_a_call_connects_three_times_to_a_host_that_closes_connections() -> None:
    """The pool, the connection and the command repeat their parts, but not each other's."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])
                accepted[-1].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with connect(url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(accepted) == 1 + QUICK_RETRIES


def test_a_checkout_of_an_open_connection_does_not_end_an_outage(server: Server) -> None:
    outage, error = Outage("it", 0.05), redis.ConnectionError("closed")
    with connect(f"redis://127.0.0.1:{server.port}/0", outage=outage) as client:
        client.ping()
        outage.record(error)
        time.sleep(0.1)
        pool = client.connection_pool
        pool.release(pool.get_connection())
        assert not outage.rides_out(error, time.monotonic())
        client.ping()
        assert outage.rides_out(error, time.monotonic())


def test_an_outage_beyond_the_limit_is_an_error_with_the_remedy_and_then_at_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    with Client(settings=ClientSettings(redis_url=url, redis_wait_s=0.4)) as client:
        client.depth()
        server.kill()
        try:
            with pytest.raises(ConnectionFailed, match="Is it running"):
                client.depth()
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert f"Redis at {url}" in caplog.text
            assert "for up to 0.4 s" in caplog.text
            # The limit belongs to the outage, not to each call.
            assert not client._outage.rides_out(redis.ConnectionError(), time.monotonic())
        finally:
            server.start()
        client.depth()
        assert client._outage.rides_out(redis.ConnectionError(), time.monotonic())
    assert "answers again" in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_timeout_also_ends_a_wait_in_an_outage(
    server: Server, settings: ClientSettings, kind: str
) -> None:
    settings = settings.model_copy(update={"redis_wait_s": 86_400.0})

    async def wait() -> None:
        async with AsyncClient(settings=settings) as client:
            job = await client.submit(URL)
            batch = await client.submit_batch([URL])
            server.kill()
            with pytest.raises(ConnectionFailed, match="Is it running"):
                await job.result(0.3)
            with pytest.raises(ConnectionFailed, match="Is it running"):
                await anext(batch.results(0.3))

    try:
        if kind == "async":
            asyncio.run(wait())
            return
        with Client(settings=settings) as client:
            job, batch = client.submit(URL), client.submit_batch([URL])
            with pytest.raises(WaitTimeout):
                job.result(0.1)
            server.kill()
            with pytest.raises(ConnectionFailed, match="Is it running"):
                job.result(0.3)
            with pytest.raises(ConnectionFailed, match="Is it running"):
                next(batch.results(0.3))
    finally:
        server.start()


def test_closing_a_client_ends_its_waits(server: Server, settings: ClientSettings) -> None:
    settings = settings.model_copy(update={"redis_wait_s": 86_400.0})
    client, errors = Client(settings=settings), list[Exception]()

    def wait() -> None:
        try:
            client.depth()
        except ConnectionFailed as error:
            errors.append(error)

    client.depth()
    server.kill()
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        time.sleep(0.2)
        client.close()
        thread.join(30)
    finally:
        server.start()
    assert len(errors) == 1


def test_an_interrupted_submission_does_not_wait_for_the_end_of_an_outage(
    server: Server, settings: ClientSettings
) -> None:
    def items() -> Iterator[str]:
        yield URL
        server.kill()
        raise KeyboardInterrupt

    settings = settings.model_copy(update={"redis_wait_s": 86_400.0})
    try:
        with Client(settings=settings) as client, pytest.raises(KeyboardInterrupt):
            client.submit_batch(items())
    finally:
        server.start()


def test_a_server_without_a_free_client_slot_is_ridden_out(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a client that has not had an answer before: the refusal is one."""
    url = f"redis://127.0.0.1:{server.port}/0"
    with server.connect() as connection, connect(url, outage=Outage("it", 60.0)) as client:
        limit = connection.config_get("maxclients")["maxclients"]
        connection.config_set("maxclients", 1)
        back = threading.Timer(0.8, connection.config_set, ["maxclients", limit])
        back.start()
        assert client.ping()
        back.join()
    assert "max number of clients" in caplog.text


def test_a_server_that_is_busy_with_a_script_is_ridden_out(server: Server) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    with server.connect() as connection, connect(url, outage=Outage("it", 60.0)) as client:
        connection.config_set("lua-time-limit", 50)
        with server.connect() as occupied:
            busy = threading.Thread(target=_run_endless_script, args=[occupied])
            busy.start()
            time.sleep(0.2)
            stop = threading.Timer(0.5, connection.script_kill)
            stop.start()
            assert client.set("key", 1)
            stop.join()
            busy.join()


def _run_endless_script(connection: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        connection.eval("while true do end", 0)


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Connection closed by server."),
        redis.TimeoutError("Timeout reading from socket"),
        redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.ResponseError("BUSY Redis is busy running a script."),
        redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        redis.ResponseError("UNBLOCKED force unblock from blocking operation"),
        redis.ResponseError("Error running script: -READONLY You can't write"),
        redis.ConnectionError("max number of clients reached"),
        OSError("Network is unreachable"),
    ],
)
def test_a_transient_error_is_retried(error: Exception) -> None:
    assert is_retryable_error(error)


@pytest.mark.parametrize(
    "error",
    [
        redis.AuthenticationError("invalid username-password pair"),
        redis.exceptions.NoPermissionError("this user has no permissions to run the command"),
        redis.exceptions.InvalidResponse("Protocol Error: HTTP/1.1"),
        redis.ResponseError("unknown command"),
        redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ValueError("a fault of the program"),
    ],
)
def test_a_permanent_error_is_not_retried(error: Exception) -> None:
    assert not is_retryable_error(error)


def test_a_limit_of_a_block_ends_with_it(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    url = f"redis://127.0.0.1:{server.port}/0"
    with connect(url, outage=Outage("it", 60.0, reached=True)) as client:
        server.kill()
        start = threading.Timer(0.5, server.start)
        with pytest.raises(ConnectionFailed), redis_errors(url), outage_limit(0.0):
            client.ping()
        start.start()
        assert client.ping()
        start.join()
