"""SubmitBatcher: jobs of the same moment share a round trip, and each has its own outcome."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import redis

from demo.stack import free_port, running_redis
from producer import (
    AsyncClient,
    Client,
    ClientSettings,
    ConnectionFailed,
    IdTaken,
    InvalidInput,
    QueueFull,
    State,
)
from producer.aio.submit_batcher import PAGE_JOBS, is_nonblocking
from producer.contract import Queue
from producer.ledger.keys import Keys
from producer.ledger.publisher import Publisher

URL = "https://images.example.com/cat.jpg"


def ask(client: AsyncClient, **more: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(client.submit({"image": URL}, **more))


def depth(redis_url: str) -> int:
    with Client(redis_url) as client:
        return client.depth().items[Queue.INTERACTIVE]


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> PausedPublisher:
    return PausedPublisher(monkeypatch)


class PausedPublisher:
    """A publisher whose round trips wait, so that a test can act meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[int] = []
        self.started = threading.Event()
        self.resume = threading.Event()
        real = Publisher.publish_all

        def publish_all(publisher: Publisher, jobs: Any) -> Any:
            self.pages.append(len(jobs))
            self.started.set()
            assert self.resume.wait(30)
            return real(publisher, jobs)

        monkeypatch.setattr(Publisher, "publish_all", publish_all)

    async def wait_until_started(self) -> None:
        await asyncio.to_thread(self.started.wait, 30)


def test_jobs_submitted_during_a_round_trip_share_the_next_one(
    redis_url: str, paused: PausedPublisher
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            first = ask(client)
            await paused.wait_until_started()
            others = [ask(client) for _ in range(PAGE_JOBS + 6)]
            await asyncio.sleep(0.05)
            paused.resume.set()
            jobs = [await task for task in (first, *others)]
            assert paused.pages == [1, PAGE_JOBS, 6]
            assert len({job.id for job in jobs}) == len(jobs) == depth(redis_url)
            assert {await job.status() for job in jobs} == {State.QUEUED}

    asyncio.run(scenario())


def test_an_invalid_job_fails_alone(redis_url: str, connection: redis.Redis) -> None:
    connection.rpush(Keys().metadata("alien"), "no note")

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            await client.submit({"image": URL, "prompt": "a"}, job_id="taken")
            ends = await asyncio.gather(
                ask(client, job_id="one"),
                ask(client, job_id="taken"),
                ask(client, job_id="two", note="\ud800"),
                ask(client, job_id="no id"),
                ask(client, job_id="alien"),
                ask(client, task="dream"),
                client.ask(URL, ""),
                client.caption(),  # type: ignore[call-arg]
                ask(client, job_id="three"),
                client.match(URL, ["a cat"]),
                return_exceptions=True,
            )
            kinds = [type(end).__name__ for end in ends]
            assert kinds == [
                "AsyncJob",
                IdTaken.__name__,
                UnicodeEncodeError.__name__,
                InvalidInput.__name__,
                ConnectionFailed.__name__,
                InvalidInput.__name__,
                InvalidInput.__name__,
                TypeError.__name__,
                "AsyncJob",
                "AsyncJob",
            ]
            assert "WRONGTYPE" in str(ends[4])
            assert depth(redis_url) == 4
            # A traceback locates a programming error.
            assert isinstance(ends[7], TypeError)
            assert ends[7].__traceback__ is not None

    asyncio.run(scenario())


def test_a_queue_takes_the_jobs_of_one_moment_up_to_its_limit(redis_url: str) -> None:
    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_interactive=3)
        async with AsyncClient(settings=settings) as client:
            ends = await asyncio.gather(*(ask(client) for _ in range(8)), return_exceptions=True)
            full = [end for end in ends if isinstance(end, QueueFull)]
            assert len(full) == 5
            assert "MAX_QUEUED_INTERACTIVE" in str(full[0])
            assert depth(redis_url) == 3

    asyncio.run(scenario())


def test_a_full_redis_rejects_each_job_with_its_own_error() -> None:
    with running_redis() as url, redis.Redis.from_url(url) as server:
        server.config_set("maxmemory", 1)

        async def scenario() -> list[Any]:
            async with AsyncClient(url) as client:
                return await asyncio.gather(
                    *(ask(client) for _ in range(5)), return_exceptions=True
                )

        ends = asyncio.run(scenario())
        assert {type(end) for end in ends} == {QueueFull}
        assert len({id(end) for end in ends}) == 5


def test_an_unreachable_redis_fails_each_job_with_an_exception_of_its_own() -> None:
    async def scenario() -> None:
        async with AsyncClient(f"redis://127.0.0.1:{free_port()}/0") as client:
            ends = await asyncio.gather(*(ask(client) for _ in range(20)), return_exceptions=True)
            assert {type(end) for end in ends} == {ConnectionFailed}
            assert len({id(end) for end in ends}) == 20

    asyncio.run(scenario())


def test_a_call_cancelled_before_its_round_trip_submits_nothing(
    redis_url: str, paused: PausedPublisher
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            first, second, third = (ask(client, job_id=name) for name in ("a", "b", "c"))
            await asyncio.sleep(0)
            second.cancel()
            await paused.wait_until_started()
            late, gone = ask(client, job_id="d"), ask(client, job_id="e")
            await asyncio.sleep(0.05)
            gone.cancel()
            # Its round trip is running: it is submitted although it is cancelled.
            third.cancel()
            await asyncio.sleep(0.05)
            paused.resume.set()
            await asyncio.gather(first, late)
            states = [await client.job(name).status() for name in "abcde"]
            made = [state is State.QUEUED for state in states]
            assert made == [True, False, True, True, False]
            await asyncio.sleep(0.05)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_closing_waits_for_the_running_round_trip_and_fails_the_next(
    redis_url: str, paused: PausedPublisher
) -> None:
    async def scenario() -> None:
        client = AsyncClient(redis_url)
        first = ask(client, job_id="first")
        await paused.wait_until_started()
        second = ask(client, job_id="second")
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.05)
        paused.resume.set()
        assert (await first).id == "first"
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await asyncio.wait_for(second, 5)
        await closing
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await ask(client)
        assert depth(redis_url) == 1

    asyncio.run(scenario())


def test_an_ended_loop_leaves_nothing_to_the_next_one(
    redis_url: str, paused: PausedPublisher
) -> None:
    client = AsyncClient(redis_url)

    async def cut_off() -> None:
        ask(client)
        await paused.wait_until_started()
        ask(client)
        await asyncio.sleep(0.05)
        threading.Timer(0.2, paused.resume.set).start()

    async def scenario() -> None:
        job = await ask(client)
        assert await job.status() is State.QUEUED

    asyncio.run(cut_off())
    asyncio.run(scenario())
    asyncio.run(client.close())


def test_a_call_that_waits_or_uploads_has_a_round_trip_of_its_own(
    redis_url: str, paused: PausedPublisher
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            await client.caption(URL, when_full="wait")
            await client.caption(b"the bytes of an image")
            assert paused.pages == []

    asyncio.run(scenario())


class Lazy(dict[str, Any]):
    """A mapping of the caller's own, whose methods may block."""


@pytest.mark.parametrize(
    ("args", "kwargs", "together"),
    [
        ((URL,), {}, True),
        ((), {"image": URL}, True),
        ((), {"item": {"image": URL}}, True),
        (({"image": URL},), {"deadline_s": 5, "when_full": "raise"}, True),
        ((), {"text": "a cat"}, True),
        ((URL,), {"when_full": "wait"}, False),
        (("cat.jpg",), {}, False),
        ((b"bytes",), {}, False),
        ((), {"image": "cat.jpg"}, False),
        (({"image": "cat.jpg"},), {}, False),
        (({"image": b"bytes"},), {}, False),
        ((Lazy(image=URL),), {}, False),
        ((URL, "and?"), {"history": iter([("what?", "cats")])}, False),
    ],
)
def test_only_nonblocking_calls_share_a_round_trip(
    args: tuple[Any, ...], kwargs: dict[str, Any], together: bool
) -> None:
    assert is_nonblocking(args, kwargs) is together
