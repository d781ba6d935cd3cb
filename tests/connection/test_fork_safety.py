"""One client in many threads, and across forks."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from producer import Client
from producer.ledger.ledger import Ledger

Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]

URL = "https://images.example.com/cat.jpg"
THREADS = 16
#: Exit code of a child that saw what it should.
RIGHT = 7


@pytest.fixture
def answering(connection: redis.Redis, finish: Finish) -> Iterator[None]:
    """Answers every question with itself, as soon as it is queued."""
    over = threading.Event()
    ledger = Ledger(connection)

    def answer() -> None:
        while not over.is_set():
            waiting = [job_id.decode() for job_id in connection.zrange(ledger.keys.open, 0, -1)]
            for row in ledger.records(waiting) if waiting else []:
                assert row is not None
                finish(row.id, [{"text": json.loads(row.payload)["items"][0]["question"]}])
            time.sleep(0.002)

    with ThreadPoolExecutor(1) as threads:
        answers = threads.submit(answer)
        yield
        over.set()
        answers.result(timeout=60)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a thousand times as often: a fork meets them holding any lock there is."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 1000)
    yield
    sys.setswitchinterval(interval)


def use(client: Client, jobs: int = 10) -> None:
    """Ask, and see that each question gets its own answer."""
    questions = [secrets.token_hex() for _ in range(jobs)]
    asked = [client.ask(URL, question) for question in questions]
    assert [job.result(timeout=60) for job in asked] == questions


@contextmanager
def used_by_threads(client: Client) -> Iterator[None]:
    """Threads that use a client all the while; raises what went wrong in one of them."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            use(client, jobs=2)

    with ThreadPoolExecutor(4) as threads:
        users = [threads.submit(go_on) for _ in range(4)]
        try:
            yield
        finally:
            over.set()
        for user in users:
            user.result(timeout=60)


def forked(act: Callable[[], None]) -> int:
    """A child that acts, and exits at once, with RIGHT if nothing was raised; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # One that hangs must not do so for ever.
        signal.alarm(20)
        act()
        code = RIGHT
    finally:
        # Nothing of the parent's, such as its fixtures, is for the child to clean up.
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_sixteen_threads_share_a_client_and_each_gets_its_own_answers(
    client: Client, answering: None
) -> None:
    began = threading.Barrier(THREADS)

    def work(_: int) -> None:
        began.wait()
        use(client, jobs=20)

    with ThreadPoolExecutor(THREADS) as threads:
        assert len(list(threads.map(work, range(THREADS)))) == THREADS


def test_threads_submit_batches_side_by_side(client: Client) -> None:
    def work(thread: int) -> str:
        items = ({"image": URL, "custom_id": f"{thread}-{n}"} for n in range(1000))
        return client.submit_batch(items, "caption").id

    with ThreadPoolExecutor(THREADS) as threads:
        batches = list(threads.map(work, range(THREADS)))
    assert len(set(batches)) == THREADS
    for batch in batches:
        assert client.batch(batch).progress().total == 1000


def test_a_client_that_was_used_before_a_fork_works_in_parent_and_children(
    client: Client, answering: None
) -> None:
    use(client)
    children = [forked(lambda: use(client)) for _ in range(8)]
    use(client, jobs=50)
    assert [exit_code(child) for child in children] == [RIGHT] * 8
    # Nor did a child that ended take the parent's connections with it.
    use(client)


def test_a_child_may_close_what_its_parent_goes_on_to_use(client: Client, answering: None) -> None:
    use(client)

    def close() -> None:
        client.close()
        use(client)
        client.close()

    assert exit_code(forked(close)) == RIGHT
    use(client)


def test_a_batch_may_be_submitted_by_many_forks_of_one_client(client: Client) -> None:
    client.submit_batch([URL])

    def submit(number: int) -> None:
        client.submit_batch([URL] * 500, batch_id=f"of-{number}")

    children = [forked(lambda number=number: submit(number)) for number in range(6)]  # type: ignore[misc]
    assert [exit_code(child) for child in children] == [RIGHT] * 6
    assert [client.batch(f"of-{number}").progress().total for number in range(6)] == [500] * 6


def test_a_fork_in_the_middle_of_what_other_threads_do(
    client: Client, restless: None, answering: None
) -> None:
    with used_by_threads(client):
        for _ in range(80):
            assert exit_code(forked(lambda: use(client, jobs=1))) == RIGHT
