"""The engine client, against real engine processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from worker.engine.client import EngineClient
from worker.engine.pending_rows import MAX_DEATHS
from worker.engine.request import Request

ECHO = Path(__file__).parents[1] / "echo_engine.py"

#: Starts an engine unless it runs: the socket and the process id.
Shared = Callable[..., tuple[Path, int]]


@pytest.fixture
def socket() -> Iterator[Path]:
    # Not tmp_path: the path of a Unix socket has some hundred bytes at most.
    with tempfile.TemporaryDirectory(prefix="blipline-test-") as directory:
        yield Path(directory, "engine.sock")


@contextmanager
def engine(socket: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(ECHO), str(socket), *options])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """`shared(*options)`: the socket and the process id of an engine that tests leave alive."""
    with ExitStack() as stack:

        @cache
        def start(*options: str) -> tuple[Path, int]:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="blipline-test-"))
            socket = Path(directory, "engine.sock")
            return socket, stack.enter_context(engine(socket, *options)).pid

        yield start


@contextmanager
def connected(socket: Path, wait_s: float = 20.0) -> Iterator[EngineClient]:
    client = EngineClient(socket, wait_s)
    client.start()
    yield client
    client.close()


def row(text: str) -> Callable[[int], Request]:
    return lambda row_id: Request(row_id, "caption", "hash", b"", text)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_row_gets_the_answer_to_its_own_text(shared: Shared) -> None:
    socket, pid = shared()
    with connected(socket) as client:
        assert client.info(20).pid == pid
        futures = [client.submit(row(str(number))) for number in range(200)]
        texts = [future.result(20).text for future in futures]
    assert texts == [f"{number} by {pid}" for number in range(200)]


def test_consumers_of_one_engine_do_not_get_each_others_answers(shared: Shared) -> None:
    socket, _ = shared()
    with connected(socket) as client, connected(socket) as second_client:
        # Both number their rows from 1.
        first, second = client.submit(row("mine")), second_client.submit(row("yours"))
        assert first.result(20).text.startswith("mine")
        assert second.result(20).text.startswith("yours")


def test_the_engine_reports_its_cached_features(shared: Shared) -> None:
    with connected(shared()[0]) as client:
        client.info(20)
        assert client.cached_features(["a1", "b1", "a2"], "caption") == {"a1", "a2"}


def test_rows_of_an_engine_that_was_killed_are_answered_by_the_next(socket: Path) -> None:
    with connected(socket) as client:
        with engine(socket, "--hold") as process:
            client.info(20)
            futures = [client.submit(row(str(number))) for number in range(20)]
            client.cached_features(
                ["a"], "caption"
            )  # its reply means that the rows before it have arrived
            os.kill(process.pid, signal.SIGKILL)
        assert not any(future.done() for future in futures)
        with engine(socket) as successor:
            texts = [future.result(20).text for future in futures]
    assert texts == [f"{number} by {successor.pid}" for number in range(20)]


def test_a_row_submitted_while_no_engine_is_there_waits_for_one(socket: Path) -> None:
    with connected(socket) as client:
        future = client.submit(row("patience"))
        with engine(socket):
            assert future.result(20).text.startswith("patience")


def test_a_row_that_sees_every_engine_die_is_poisoned(socket: Path) -> None:
    with connected(socket) as client:
        future = None
        for death in range(MAX_DEATHS):
            with engine(socket, "--hold"):
                client.info(20)
                future = future or client.submit(row("deadly"))
                wait_for(lambda: client.cached_features(["a"], "caption") == {"a"})
            assert future.done() is False or death == MAX_DEATHS - 1
        assert future is not None
        assert future.result(20).error_code == "poisoned"


def test_a_row_that_kills_engines_is_isolated_and_spares_the_others(
    socket: Path,
) -> None:
    with connected(socket) as client:
        texts = [str(number) for number in range(30)]
        texts[17] = "deadly"
        futures = [client.submit(row(text)) for text in texts]
        for _ in range(MAX_DEATHS + 1):
            with engine(socket, "--mortal") as process:
                wait_for(lambda: process.poll() is not None or all(f.done() for f in futures))
        answers = [future.result(20) for future in futures]
    assert [answer.error_code for answer in answers].count("poisoned") == 1
    assert answers[17].error_code == "poisoned"


def test_without_an_engine_a_row_ends_after_the_time_allowed(socket: Path) -> None:
    with connected(socket, wait_s=0.3) as client:
        answer = client.submit(row("lonely")).result(20)
    assert answer.error_code == "engine_unavailable"


def test_a_cancelled_row_ends_as_cancelled(shared: Shared) -> None:
    with connected(shared("--hold")[0]) as client:
        client.info(20)
        ids: list[int] = []

        def build(row_id: int) -> Request:
            ids.append(row_id)
            return row("unwanted")(row_id)

        future = client.submit(build)
        client.cancel(ids)
        assert future.result(20).error_code == "cancelled"


def test_closing_the_client_answers_the_remaining_rows(shared: Shared) -> None:
    with connected(shared("--hold")[0]) as client:
        client.info(20)
        future = client.submit(row("late"))
    assert future.result(1).error_code == "engine_unavailable"


def test_an_engine_whose_step_hangs_ends_and_the_next_one_answers(socket: Path) -> None:
    with connected(socket) as client:
        with engine(socket, "--hangs") as process:
            client.info(20)
            future = client.submit(row("hanging"))
            assert process.wait(20) == 1  # its step would take a minute
        assert not future.done()
        with engine(socket):
            assert future.result(20).text.startswith("hanging")


def test_a_consumer_is_notified_of_an_engine_with_other_models(socket: Path) -> None:
    changes: list[bool] = []
    client = EngineClient(socket, 20, on_models_changed=lambda: changes.append(True))
    client.start()
    with engine(socket) as first:
        client.info(20)
    with engine(socket) as second:
        wait_for(lambda: client.info(20).pid == second.pid)
        assert not changes
    with engine(socket, "--writes") as third:
        wait_for(lambda: client.info(20).pid == third.pid)
        assert changes == [True]
    client.close()
    assert first.pid != second.pid
