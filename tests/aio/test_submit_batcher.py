"""Submissions of one moment: one round trip, and an outcome for each alone."""

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
from producer.aio.batching import LoopTask
from producer.aio.submit_batcher import PAGE_JOBS, is_nonblocking
from producer.contract import Queue
from producer.ledger.isolation import isolate_failures
from producer.ledger.keys import Keys
from producer.ledger.publisher import Publisher

URL = "https://images.example.com/cat.jpg"


def ask(client: AsyncClient, **more: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(client.submit({"image": URL}, **more))


def depth(redis_url: str) -> int:
    with Client(redis_url) as client:
        return client.depth().items[Queue.INTERACTIVE]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


class Held:
    """Holds round trips up, so that a test can act while one is under way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[int] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        real = Publisher.publish_all

        def publish_all(publisher: Publisher, postings: Any) -> Any:
            self.pages.append(len(postings))
            self.begun.set()
            assert self.go.wait(30)
            return real(publisher, postings)

        monkeypatch.setattr(Publisher, "publish_all", publish_all)

    async def until_begun(self) -> None:
        await asyncio.to_thread(self.begun.wait, 30)


def test_what_comes_while_others_are_under_way_goes_together(redis_url: str, held: Held) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            first = ask(client)
            await held.until_begun()
            others = [ask(client) for _ in range(PAGE_JOBS + 6)]
            await asyncio.sleep(0.05)
            held.go.set()
            jobs = [await one for one in (first, *others)]
            assert held.pages == [1, PAGE_JOBS, 6]
            assert len({job.id for job in jobs}) == len(jobs) == depth(redis_url)
            assert {await job.status() for job in jobs} == {State.QUEUED}

    asyncio.run(scenario())


def test_what_is_wrong_with_one_is_told_to_it_alone(
    redis_url: str, connection: redis.Redis
) -> None:
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
            # A bug is found by where it was raised.
            assert isinstance(ends[7], TypeError)
            assert ends[7].__traceback__ is not None

    asyncio.run(scenario())


def test_a_queue_takes_of_one_moment_what_it_has_room_for(redis_url: str) -> None:
    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_interactive=3)
        async with AsyncClient(settings=settings) as client:
            ends = await asyncio.gather(*(ask(client) for _ in range(8)), return_exceptions=True)
            full = [end for end in ends if isinstance(end, QueueFull)]
            assert len(full) == 5
            assert "MAX_QUEUED_INTERACTIVE" in str(full[0])
            assert depth(redis_url) == 3

    asyncio.run(scenario())


def test_a_full_redis_takes_nothing_and_says_so_to_each() -> None:
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


def test_redis_away_is_told_to_each_with_an_exception_of_its_own() -> None:
    async def scenario() -> None:
        async with AsyncClient(f"redis://127.0.0.1:{free_port()}/0") as client:
            ends = await asyncio.gather(*(ask(client) for _ in range(20)), return_exceptions=True)
            assert {type(end) for end in ends} == {ConnectionFailed}
            assert len({id(end) for end in ends}) == 20

    asyncio.run(scenario())


def test_who_gives_up_before_it_is_begun_submits_nothing(redis_url: str, held: Held) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            first, second, third = (ask(client, job_id=name) for name in ("a", "b", "c"))
            await asyncio.sleep(0)
            second.cancel()
            await held.until_begun()
            late, gone = ask(client, job_id="d"), ask(client, job_id="e")
            await asyncio.sleep(0.05)
            gone.cancel()
            # This one is under way: it is submitted all the same.
            third.cancel()
            await asyncio.sleep(0.05)
            held.go.set()
            await asyncio.gather(first, late)
            states = [await client.job(name).status() for name in "abcde"]
            made = [state is State.QUEUED for state in states]
            assert made == [True, False, True, True, False]
            await asyncio.sleep(0.05)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_closing_lets_what_is_under_way_end_and_tells_the_others(
    redis_url: str, held: Held
) -> None:
    async def scenario() -> None:
        client = AsyncClient(redis_url)
        first = ask(client, job_id="first")
        await held.until_begun()
        second = ask(client, job_id="second")
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.05)
        held.go.set()
        assert (await first).id == "first"
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await asyncio.wait_for(second, 5)
        await closing
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await ask(client)
        assert depth(redis_url) == 1

    asyncio.run(scenario())


def test_a_loop_that_ends_leaves_nothing_behind_for_the_next(redis_url: str, held: Held) -> None:
    client = AsyncClient(redis_url)

    async def cut_off() -> None:
        ask(client)
        await held.until_begun()
        ask(client)
        await asyncio.sleep(0.05)
        threading.Timer(0.2, held.go.set).start()

    async def scenario() -> None:
        job = await ask(client)
        assert await job.status() is State.QUEUED

    asyncio.run(cut_off())
    asyncio.run(scenario())
    asyncio.run(client.close())


def test_what_waits_for_room_or_reads_a_file_goes_alone(redis_url: str, held: Held) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            await client.caption(URL, when_full="wait")
            await client.caption(b"the bytes of an image")
            assert held.pages == []

    asyncio.run(scenario())


class Lazy(dict[str, Any]):
    """A mapping of somebody's own: who knows what reading it takes."""


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
def test_only_what_holds_up_nobody_goes_together(
    args: tuple[Any, ...], kwargs: dict[str, Any], together: bool
) -> None:
    assert is_nonblocking(args, kwargs) is together


def test_halves_find_those_that_are_wrong_and_ask_for_nothing_in_vain() -> None:
    asked: list[list[int]] = []

    def ask_for(things: Any) -> list[int]:
        asked.append(list(things))
        if 3 in things:
            raise ValueError(3)
        return [thing * 2 for thing in things]

    answers = isolate_failures(ask_for, range(4))
    assert [str(answer) for answer in answers] == ["0", "2", "4", "3"]
    assert asked == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert isolate_failures(ask_for, ()) == []


def test_halves_do_not_go_on_asking_a_redis_that_is_away() -> None:
    asked = []

    def ask_for(things: Any) -> list[Any]:
        asked.append(things)
        raise ConnectionFailed("away") from redis.ConnectionError("away")

    assert len(isolate_failures(ask_for, range(9))) == 9
    assert len(asked) == 1


class Silent(LoopTask[str]):
    """Never comes to an answer."""

    def add(self) -> asyncio.Future[str | Exception]:
        return self.new_future()

    async def process(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("begun", [False, True])
def test_nobody_is_left_waiting_by_anprocessant_that_is_cancelled(begun: bool) -> None:
    async def scenario() -> None:
        others = asyncio.all_tasks()
        silent = Silent()
        found = silent.add()
        silent.start()
        if begun:
            await asyncio.sleep(0.05)
        (task,) = asyncio.all_tasks() - others
        task.cancel()
        await asyncio.wait([found], timeout=5)
        assert found.cancelled()
        assert not silent.running

    asyncio.run(scenario())
