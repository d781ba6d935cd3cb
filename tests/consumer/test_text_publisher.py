"""Texts of running jobs in Redis: they grow, and nothing is left of them."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import redis

from producer.contract import Task
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.consumer.runners import StartRunner, run_item
from worker.consumer.text_publisher import TextPublisher

KEYS = Keys()
PROMPT = "a cat on a red sofa beside a lamp"


def text_keys(connection: redis.Redis) -> list[Any]:
    return connection.keys(KEYS.partial_text("*"))


def texts_of(connection: redis.Redis, run: Any, job_id: str = "job") -> tuple[list[str], Any]:
    """Run a job in a thread; return the texts that a reader sees meanwhile, and its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    seen: list[str] = []
    while thread.is_alive():
        (text,) = Ledger(connection).partial_texts([job_id])
        if text is not None and text not in seen[-1:]:
            seen.append(text)
        time.sleep(0.002)
    thread.join()
    return seen, results[0]


def test_the_text_of_a_job_grows_and_is_gone_when_it_ends(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    item = {"image": blob, "prompt": PROMPT}
    with start_runner() as runner:
        seen, result = texts_of(
            connection, lambda: run_item(runner, Task.CAPTION, item, "job", stream=True)
        )
    assert result["text"].startswith(PROMPT)
    assert len(seen) > 1
    assert all(result["text"].startswith(text) for text in seen)
    assert seen == sorted(seen, key=len)
    assert not text_keys(connection)


def test_a_job_that_does_not_ask_or_has_several_texts_publishes_none(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    item = {"image": blob, "prompt": PROMPT}
    unpublished: list[dict[str, Any]] = [
        {},
        {"stream": True, "num_beams": 2},
        {"stream": True, "num_return_sequences": 2, "temperature": 1},
    ]
    with start_runner() as runner:
        for number, options in enumerate(unpublished):
            run = partial(run_item, runner, Task.CAPTION, item, f"job-{number}", **options)
            seen, result = texts_of(connection, run, f"job-{number}")
            assert (seen, result["text"][: len(PROMPT)]) == ([], PROMPT)
        items = [item, item]
        results = runner.run("two", Task.CAPTION, items, {"stream": True}, interactive=True)
        assert results is not None
        bulk = runner.run("bulk", Task.CAPTION, [item], {"stream": True}, interactive=False)
        assert bulk is not None
    assert not text_keys(connection)


def test_a_text_that_no_consumer_ends_expires(connection: redis.Redis) -> None:
    publisher = TextPublisher(connection)
    publisher.publish("job", "a cät")
    ledger, deadline = Ledger(connection), time.monotonic() + 20
    while ledger.partial_texts(["job", "none"]) != ["a cät", None]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert 0 < connection.ttl(KEYS.partial_text("job")) <= 60
    publisher.end("job")
    assert not text_keys(connection)
    publisher.close()
