"""A client in many threads, and across forks."""

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
#: Exit code of a child that succeeded.
SUCCESS = 7


@pytest.fixture
def answering(connection: redis.Redis, finish: Finish) -> Iterator[None]:
    """Answer every question with itself, as soon as it is queued."""
    over = threading.Event()
    ledger = Ledger(connection)

    def answer() -> None:
        while not over.is_set():
            open_ids: Any = connection.zrange(ledger.keys.open, 0, -1)
            waiting = [job_id.decode() for job_id in open_ids]
            for record in ledger.records(waiting) if waiting else []:
                assert record is not None
                finish(record.id, [{"text": json.loads(record.payload)["items"][0]["question"]}])
            time.sleep(0.002)

    with ThreadPoolExecutor(1) as threads:
        answers = threads.submit(answer)
        yield
        over.set()
        answers.result(timeout=60)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Switch threads a thousand times as often: a fork meets them with any lock acquired."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 1000)
    yield
    sys.setswitchinterval(interval)


def use(client: Client, jobs: int = 10) -> None:
    """Ask questions, and check that each gets its own answer."""
    questions = [secrets.token_hex() for _ in range(jobs)]
    submitted = [client.ask(URL, question) for question in questions]
    assert [job.result(timeout=60) for job in submitted] == questions


@contextmanager
def used_by_threads(client: Client) -> Iterator[None]:
    """Use a client in threads during the block; raise the first error of a thread."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            use(client, jobs=2)

    with ThreadPoolExecutor(4) as threads:
        users = [threads.submit(work) for _ in range(4)]
        try:
            yield
        finally:
            over.set()
        for user in users:
            user.result(timeout=60)


def forked(act: Callable[[], None]) -> int:
    """Fork a child that acts and exits with SUCCESS unless an error is raised; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # A child that hangs is killed.
        signal.alarm(20)
        act()
        code = SUCCESS
    finally:
        # The child must not clean up what belongs to the parent, such as fixtures.
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_sixteen_threads_share_a_client_and_each_gets_its_own_answers(
    client: Client, answering: None
) -> None:
    start = threading.Barrier(THREADS)

    def work(_: int) -> None:
        start.wait()
        use(client, jobs=8)

    with ThreadPoolExecutor(THREADS) as threads:
        assert len(list(threads.map(work, range(THREADS)))) == THREADS


def test_threads_submit_batches_side_by_side(client: Client) -> None:
    def work(thread: int) -> str:
        items = ({"image": URL, "custom_id": f"{thread}-{n}"} for n in range(500))
        return client.submit_batch(items, "caption").id

    with ThreadPoolExecutor(THREADS) as threads:
        batches = list(threads.map(work, range(THREADS)))
    assert len(set(batches)) == THREADS
    for batch in batches:
        assert client.batch(batch).progress().total == 500


def test_a_client_that_was_used_before_a_fork_works_in_parent_and_children(
    client: Client, answering: None
) -> None:
    use(client)
    children = [forked(lambda: use(client)) for _ in range(8)]
    use(client, jobs=50)
    assert [exit_code(child) for child in children] == [SUCCESS] * 8
    # The end of a child does not close the parent's connections.
    use(client)


def test_a_child_can_close_the_client_that_its_parent_uses(client: Client, answering: None) -> None:
    use(client)

    def close() -> None:
        client.close()
        use(client)
        client.close()

    assert exit_code(forked(close)) == SUCCESS
    use(client)


def test_many_forks_of_one_client_can_submit_batches(client: Client) -> None:
    client.submit_batch([URL])

    def submit(number: int) -> None:
        client.submit_batch([URL] * 500, batch_id=f"of-{number}")

    children = [forked(lambda number=number: submit(number)) for number in range(6)]  # type: ignore[misc]
    assert [exit_code(child) for child in children] == [SUCCESS] * 6
    assert [client.batch(f"of-{number}").progress().total for number in range(6)] == [500] * 6


def test_a_child_does_not_inherit_the_locks_of_a_thread(client: Client, answering: None) -> None:
    use(client)
    pool: Any = client._redis.connection_pool
    locked, release = threading.Event(), threading.Event()

    def lock() -> None:
        with pool._lock, pool._event_dispatcher._lock:
            locked.set()
            release.wait(60)

    with ThreadPoolExecutor(1) as threads:
        owner = threads.submit(lock)
        assert locked.wait(60)
        child = forked(lambda: use(client, jobs=1))
        release.set()
        owner.result(60)
    assert exit_code(child) == SUCCESS


def test_a_fork_can_happen_while_other_threads_use_the_client(
    client: Client, frequent_switches: None, answering: None
) -> None:
    with used_by_threads(client):
        for _ in range(12):
            assert exit_code(forked(lambda: use(client, jobs=1))) == SUCCESS
