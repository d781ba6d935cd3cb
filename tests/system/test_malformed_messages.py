"""Messages that no consumer can process do not stop service: a real worker, every form at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from producer import Client, Queue
from producer.ledger.malformed import MAX_MESSAGES, MalformedMessages
from tests.hostile.messages import encode, malformed_messages, odd_messages, valid, wrong_types
from tests.redis_servers import wait_until
from tests.system.null_worker import NullWorker

ITEMS = [{"image": "https://images.example.com/a.png", "custom_id": "answered"}]


@dataclass(frozen=True)
class Service:
    """A Redis and a worker, all of whose processes must outlast every test."""

    worker: NullWorker
    connection: redis.Redis
    malformed: MalformedMessages

    def answers(self, task_ids: list[str]) -> list[Any]:
        """Wait for the results of these tasks; return them."""
        keys = [f"celery-task-meta-{task_id}" for task_id in task_ids]
        wait_until(lambda: self.connection.exists(*keys) == len(keys), "all results")
        stored: Any = self.connection.mget(keys)
        return [json.loads(text)["result"] for text in stored]

    def check(self) -> None:
        """Check that each queue is served, by the same processes, and that no message is left."""
        with Client(self.worker.url) as client:
            jobs = [client.submit_batch(ITEMS), client.submit_batch(ITEMS)]
            client.caption(ITEMS[0]["image"]).result(timeout=60)
            assert [len(list(job.results(timeout=60))) for job in jobs] == [1, 1]
        wait_until(lambda: not self.connection.exists("unacked"), "all acknowledgements")
        self.worker.check_processes()


@pytest.fixture
def service(null_worker: NullWorker) -> Iterator[Service]:
    """A service without malformed messages, checked after the test."""
    connection = null_worker.redis
    service = Service(null_worker, connection, MalformedMessages(connection))
    service.malformed.clear()
    yield service
    service.check()


@pytest.mark.parametrize("queue", list(Queue))
def test_every_malformed_message_is_set_aside_and_the_next_one_is_answered(
    service: Service, queue: Queue
) -> None:
    bad, good = dict(malformed_messages(queue)), []
    assert 100 < len(bad) < MAX_MESSAGES
    pipe = service.connection.pipeline()
    for number, data in enumerate(bad.values()):
        message = valid(queue, 5000 + number)
        message["body"] = encode(json.dumps([[ITEMS], {}, {}]).encode())
        good.append(message["headers"]["id"])
        pipe.lpush(queue.value, data, json.dumps(message))
    pipe.execute()
    assert all(answer[0]["text"] == "answered" for answer in service.answers(good))
    wait_until(lambda: len(service.malformed.read_all()) >= len(bad), "all malformed messages")
    letters = service.malformed.read_all()
    assert {letter.queue for letter in letters} == {queue.value}
    assert all(letter.reason for letter in letters)
    assert sorted(letter.size_bytes for letter in letters) == sorted(map(len, bad.values()))
    for letter in letters:
        assert any(data.startswith(letter.data) for data in bad.values())


@pytest.mark.parametrize("queue", list(Queue))
def test_an_unusual_message_is_answered(service: Service, queue: Queue) -> None:
    messages = dict(odd_messages(queue, ITEMS))
    service.connection.lpush(queue.value, *messages.values())
    ids = [f"hostile-{queue}-{number}" for number in range(1000, 999 + len(messages))]
    for answer in service.answers([*ids, f"hostile-{queue}-1100"]):
        assert answer[0]["text"] == "answered"
    assert len(service.malformed.read_all()) == 0


@pytest.mark.parametrize("name", ["bulk", "interactive", "bulk\x06\x163", "unacked_index"])
def test_a_key_of_a_wrong_type_is_renamed(service: Service, name: str) -> None:
    expected = b"zset" if name == "unacked_index" else b"list"
    kinds = 0
    for kind in wrong_types(service.connection, name):
        if kind == expected.decode():
            continue
        kinds += 1
        if name == "unacked_index":
            # The consumer notices it with the next message.
            service.connection.lpush("bulk", json.dumps(valid(Queue.BULK, 9000 + kinds)))
        wait_until(
            lambda: service.connection.type(name) in (b"none", expected), f"a renamed {kind}"
        )
        reason = f"the key {name} is a {kind}"
        wait_until(lambda: _is_set_aside(service, reason), reason)  # noqa: B023 - called at once
        assert service.connection.type(f"blipline:displaced:{name}") == kind.encode()


def _is_set_aside(service: Service, reason: str) -> bool:
    return any(reason in letter.reason for letter in service.malformed.read_all())


def test_a_malformed_unacknowledged_message_is_set_aside(service: Service) -> None:
    entries: dict[Any, Any] = {
        "a": b"not json",
        "b": b"[1]",
        "c": b'["text", null, null]',
        "d": b"[" * 100_000,
    }
    # As old as if its consumer had died long ago.
    service.connection.hset("unacked", mapping=entries)
    service.connection.zadd("unacked_index", dict.fromkeys(entries, 1.0))
    wait_until(lambda: not service.connection.exists("unacked_index"), "the restoration")
    assert {letter.queue for letter in service.malformed.read_all()} == {"unacked"}


def test_a_malformed_control_command_is_dropped(service: Service) -> None:
    for _, data in list(malformed_messages(Queue.BULK))[::3]:
        service.connection.publish("/0.celery.pidbox", data)
    service.connection.publish("/0.celery.pidbox", b"[" * 100_000)
    service.check()
    assert len(service.malformed.read_all()) == 0


def test_a_bad_body_of_a_large_message_is_kept_in_part(service: Service) -> None:
    service.connection.lpush("bulk", b"x" * (8 << 20))
    wait_until(lambda: len(service.malformed.read_all()) == 1, "the dead letter")
    (letter,) = service.malformed.read_all()
    assert letter.size_bytes == 8 << 20
    assert letter.data == b"x" * (16 << 10)
