"""The text of a job while it grows, as a client reads it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from producer import AsyncClient, Client, JobFailed, WaitTimeout
from producer.ledger.keys import Keys
from producer.results.text_stream import TextPart, TextParts
from tests.conftest import Finish

KEY = Keys()
URL = "https://images.example.com/cat.jpg"


def joined(parts: list[TextPart]) -> str:
    """Return the text of parts: those from the last restart on."""
    starts = [index for index, part in enumerate(parts) if part.restarts]
    return "".join(part.text for part in parts[(starts or [0])[-1] :])


def parts_of(texts: list[str], final: str) -> list[TextPart]:
    stream = TextParts()
    parts = [stream.advance(text) for text in texts] + [stream.advance(final, is_final=True)]
    return [part for part in parts if part is not None]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ["a cat"]),
        (["a", "a c", "a c", "a cat"], ["a", " c", "at"]),
        # A further worker begins again, and repeats the text
        (["a c", "a", "a c", "a ca"], ["a c", "a", "t"]),
        (["a c", ""], ["a c", "at"]),
    ],
)
def test_parts_join_to_the_final_text(texts: list[str], expected: list[str]) -> None:
    parts = parts_of(texts, "a cat")
    assert [part.text for part in parts] == expected
    assert not any(part.restarts for part in parts)


def test_a_different_text_restarts_the_parts() -> None:
    parts = parts_of(["a dog", "a c"], "a cat")
    assert [(part.text, part.restarts) for part in parts] == [
        ("a dog", False),
        ("a c", True),
        ("at", False),
    ]
    assert [part.restarts for part in parts_of(["a cat on"], "a cat")] == [False, True]


def test_parts_of_any_texts_join_to_the_final_one() -> None:
    texts = ["", "a", "b", "ab", "abc"]
    for sequence in itertools.product(texts, repeat=4):
        assert joined(parts_of([*sequence[:3]], sequence[3])) == sequence[3]


def published(
    connection: redis.Redis, job_id: str, texts: list[str], finish: Finish, result: dict[str, str]
) -> Iterator[None]:
    """Publish a further text at each step, then end the job."""
    for text in texts:
        connection.set(KEY.partial_text(job_id), text)
        yield
    finish(job_id, [result])
    yield


def test_a_job_streams_its_text_and_then_ends(
    client: Client, connection: redis.Redis, finish: Finish
) -> None:
    job = client.caption(URL, stream=True)
    steps = published(connection, job.id, ["a", "a c"], finish, {"text": "a cat"})
    next(steps)
    parts = []
    for part in job.stream(timeout=20):
        parts.append(part.text)
        next(steps, None)
    assert parts == ["a", " c", "at"]
    assert [part.text for part in client.job(job.id).stream()] == ["a cat"]


def test_an_asynchronous_job_streams_its_text(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    async def parts() -> list[str]:
        async with AsyncClient(redis_url) as client:
            job = await client.caption(URL, stream=True)
            steps = published(connection, job.id, ["a", "a c"], finish, {"text": "a cat"})
            next(steps)
            texts = []
            async for part in job.stream(timeout=20):
                texts.append(part.text)
                next(steps, None)
            return texts

    assert asyncio.run(parts()) == ["a", " c", "at"]


def test_a_stream_raises_the_errors_of_the_result(client: Client, finish: Finish) -> None:
    job = client.caption(URL, stream=True)
    with pytest.raises(WaitTimeout):
        list(job.stream(timeout=0.01))
    finish(job.id, [{"error": {"code": "image_invalid", "message": "no image"}}])
    with pytest.raises(JobFailed, match="no image"):
        list(job.stream())


def test_a_sampled_text_that_is_streamed_has_a_seed_so_that_a_worker_can_repeat_it(
    client: Client,
) -> None:
    builder = client._builder
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"stream": True, "temperature": 1.0}, True),
        ({"stream": True, "do_sample": True}, True),
        ({"stream": True}, False),
        ({"temperature": 1.0}, False),
    ]
    for options, has_seed in cases:
        payload = json.loads(builder.caption(URL, **options).record.payload)
        assert ("seed" in payload["options"]) is has_seed, options
