"""AsyncClient: what Client does, and waiting for thousands at once."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from demo.stack import free_port, running_redis
from producer import (
    AsyncBatch,
    AsyncClient,
    AsyncJob,
    Batch,
    BliplineError,
    Client,
    ClientSettings,
    ConnectionFailed,
    Job,
    JobCancelled,
    JobUnknown,
    Match,
    QueueFull,
    State,
    WaitTimeout,
    contract,
)
from producer.ledger.ledger import Ledger

URL = "https://images.example.com/cat.jpg"
STRANGER = "01890000-0000-7000-8000-0000000000zz"
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]
AnyClient = Client | AsyncClient
Scenario = Callable[[Any, Finish], Coroutine[Any, Any, Any]]


async def got(value: Any) -> Any:
    """What either client gives."""
    return await value if inspect.isawaitable(value) else value


async def listed(results: Any) -> list[Any]:
    """All results of either kind of batch."""
    if isinstance(results, AsyncIterator):
        return [result async for result in results]
    return list(results)


def run(client: AnyClient, scenario: Coroutine[Any, Any, Any]) -> Any:
    """Run a scenario, and close the client that it used."""

    async def go() -> Any:
        try:
            return await scenario
        finally:
            await got(client.close())

    return asyncio.run(go())


def numbered(count: int) -> Iterator[dict[str, str]]:
    return ({"image": URL, "custom_id": str(number)} for number in range(count))


def finish_chunks(finish: Finish, batch_id: str, items: int, chunk_items: int) -> None:
    """The last one first."""
    for first in reversed(range(0, items, chunk_items)):
        texts = range(first, min(first + chunk_items, items))
        finish(f"{batch_id}:{first // chunk_items}", [{"text": str(n)} for n in texts])


@pytest.fixture(params=[Client, AsyncClient])
def either(request: pytest.FixtureRequest, redis_url: str) -> AnyClient:
    client: AnyClient = request.param(redis_url)
    return client


# What both do.


def test_each_method_gives_its_answer(either: Any, finish: Finish, connection: redis.Redis) -> None:
    async def scenario() -> None:
        match = {"text": "a cat", "probability": 0.5, "cosine": 0.1}
        vector = {"embedding": [0.6, 0.8]}
        text, tasks = {"text": "two"}, []
        for call, result, value in (
            (either.caption(URL, "a", max_new_tokens=5), text, "two"),
            (either.ask(URL, "how many?"), text, "two"),
            (either.chat(URL, "how many?", [("what?", "cats")]), text, "two"),
            (either.match(URL, "a cat"), {"matches": [match]}, [Match("a cat", 0.5, 0.1)]),
            (either.embed(text="a cat"), vector, [0.6, 0.8]),
        ):
            job = await got(call)
            assert await got(job.status()) is State.QUEUED
            (row,) = Ledger(connection).records([job.id])
            assert row is not None
            tasks.append(json.loads(row.payload)["task"])
            finish(job.id, [result])
            assert await got(job.result(timeout=5)) == value
            assert await got(either.job(job.id).status()) is State.DONE
        assert tasks == ["caption", "vqa", "chat", "match", "embed"]

    run(either, scenario())


def test_a_batch_is_submitted_and_read_to_its_end(either: Any, finish: Finish) -> None:
    async def scenario() -> None:
        totals: list[int] = []
        batch = await got(
            either.submit_batch(numbered(70), on_submitted=totals.append, batch_id="mine")
        )
        assert totals[-1] == 70
        finish_chunks(finish, "mine", 70, contract.CHUNK_ITEMS)
        batch = either.batch("mine")
        assert (await got(batch.progress())).finished
        results = await listed(batch.results(timeout=5))
        assert [result.text for result in results] == [str(n) for n in range(70)]
        rest = await listed(batch.results(timeout=5, cursor=results[39].cursor))
        assert [result.index for result in rest] == list(range(40, 70))
        ended = await listed(batch.results(timeout=5, as_completed=True))
        assert [result.index for result in ended] == [*range(64, 70), *range(32, 64), *range(32)]
        await got(batch.delete())
        with pytest.raises(BliplineError, match="no batch mine"):
            await got(batch.progress())

    run(either, scenario())


def test_a_batch_is_cancelled_and_asked_again(either: Any, finish: Finish) -> None:
    async def scenario() -> None:
        batch = await got(either.submit_batch(numbered(2), chunk_items=1))
        finish(f"{batch.id}:0", [contract.failure("internal", "once")])
        await got(batch.cancel())
        assert (await got(batch.progress())).cancelled
        assert await got(batch.retry_failed()) == 1
        await got(batch.close())
        finish_chunks(finish, batch.id, 2, 1)
        results = await listed(batch.results(timeout=5))
        assert [result.text for result in results] == ["0", "1"]

    run(either, scenario())


async def of_a_failed_job(client: Any, finish: Finish) -> None:
    job = await got(client.caption(URL))
    finish(job.id, [contract.failure("image_unreachable", "404")])
    await got(job.result(timeout=5))


async def of_a_cancelled_job(client: Any, finish: Finish) -> None:
    job = await got(client.caption(URL))
    await got(job.cancel())
    await got(job.result(timeout=5))


async def of_a_wait(client: Any, finish: Finish) -> None:
    await got((await got(client.caption(URL))).result(timeout=0.2))


async def of_a_wait_for_a_batch(client: Any, finish: Finish) -> None:
    batch = await got(client.submit_batch(numbered(2)))
    await listed(batch.results(timeout=0.2))


async def of_items(client: Any, finish: Finish) -> None:
    def broken() -> Iterator[str]:
        yield URL
        raise LookupError("no more rows")

    await got(client.submit_batch(broken()))


async def of_a_callback(client: Any, finish: Finish) -> None:
    await got(client.submit_batch(numbered(1), on_submitted=lambda total: 1 // 0))


async def of_a_full_queue(client: Any, finish: Finish) -> None:
    for _ in range(2):
        await got(client.caption(URL))


@pytest.mark.parametrize(
    "scenario",
    [
        of_a_failed_job,
        of_a_cancelled_job,
        of_a_wait,
        of_a_wait_for_a_batch,
        of_items,
        of_a_callback,
        of_a_full_queue,
        lambda client, _: got(client.job(STRANGER).result(timeout=5)),
        lambda client, _: got(client.job("01890000-0000-7000-8000-000000000000").result()),
        lambda client, _: got(client.batch("no").progress()),
        lambda client, _: listed(client.batch("no").results()),
        lambda client, _: listed(client.batch("no").results(cursor=-1)),
        lambda client, _: got(client.ask(URL, "")),
        lambda client, _: got(client.caption(URL, beams=5)),
        lambda client, _: got(client.caption("missing.png")),
        lambda client, _: got(client.submit_batch([URL], chunk_items=0)),
        lambda client, _: got(client.submit_batch(42)),
    ],
)
def test_both_clients_raise_the_same(scenario: Scenario, redis_url: str, finish: Finish) -> None:
    raised = []
    for kind in (Client, AsyncClient):
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()
        client = kind(settings=ClientSettings(redis_url=redis_url, max_queued_interactive=1))

        async def begin(client: AnyClient = client) -> None:
            await scenario(client, finish)

        raised.append(end_of(client, begin()))
    assert raised[0] == raised[1]


def end_of(client: AnyClient, scenario: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """What a scenario raises: class, code, and message but for ids."""
    try:
        run(client, scenario)
    except Exception as error:
        text = re.sub(r"(job|batch) [0-9a-f-]{36}", r"\1 ID", str(error))
        return type(error), getattr(error, "code", None), text
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_redis_away_is_the_same_error_everywhere(kind: Callable[[str], Any]) -> None:
    client = kind(f"redis://user:secret@127.0.0.1:{free_port()}/0")

    async def scenario() -> None:
        for call in (
            lambda: client.caption(URL),
            client.job(STRANGER).result,
            client.batch("b").progress,
            lambda: client.submit_batch([URL]),
        ):
            with pytest.raises(ConnectionFailed, match="BLIPLINE_REDIS_URL") as raised:
                await got(call())
            assert "secret" not in str(raised.value)

    run(client, scenario())


@pytest.mark.parametrize(
    ("asynchronous", "synchronous"), [(AsyncClient, Client), (AsyncJob, Job), (AsyncBatch, Batch)]
)
def test_there_is_every_method_and_it_says_what_it_does(
    asynchronous: type, synchronous: type
) -> None:
    for name, method in inspect.getmembers(synchronous, inspect.isfunction):
        # `value` is for clients alone, `dead` for those who run the workers.
        if not name.startswith("_") and name not in ("value", "dead"):
            assert getattr(asynchronous, name).__doc__, name
            assert list(inspect.signature(getattr(asynchronous, name)).parameters) == list(
                inspect.signature(method).parameters
            )


# Waiting.


def test_two_thousand_jobs_are_awaited_by_few_threads_and_few_reads(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    def reads() -> int:
        return int(connection.info("stats")["total_reads_processed"])

    def connections() -> int:
        return int(connection.info("clients")["connected_clients"])

    async def scenario() -> None:
        before, others = threading.active_count(), connections()
        async with AsyncClient(redis_url) as client:
            jobs = await asyncio.gather(*(client.caption(URL) for _ in range(2000)))
            waits = [asyncio.create_task(job.result(timeout=120)) for job in jobs]
            await asyncio.sleep(1)
            read, began = reads(), time.monotonic()
            # The loop is free meanwhile.
            while time.monotonic() < began + 1:
                slept = time.monotonic()
                await asyncio.sleep(0.01)
                assert time.monotonic() - slept < 1
            # A thread for each, looking ten times a second, would make 20,000.
            assert reads() - read < 2000 * (time.monotonic() - began)
            assert threading.active_count() - before <= 8 + 1
            assert connections() - others <= 8 + 1
            await asyncio.to_thread(finish_all, finish, [job.id for job in jobs])
            assert await asyncio.gather(*waits) == [f"of {job.id}" for job in jobs]

    asyncio.run(scenario())


def finish_all(finish: Finish, job_ids: list[str]) -> None:
    for job_id in job_ids:
        finish(job_id, [{"text": f"of {job_id}"}])


def test_a_lone_answer_comes_at_once_however_many_others_wait(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> float:
        async with AsyncClient(redis_url) as client:
            others = await asyncio.gather(*(client.caption(URL) for _ in range(300)))
            waits = [asyncio.create_task(job.result()) for job in others]
            await asyncio.sleep(1)
            job = await client.caption(URL)
            mine = asyncio.create_task(job.result(timeout=5))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            finish(job.id, [{"text": "x"}])
            assert await mine == "x"
            took_s = time.monotonic() - began
            for wait in waits:
                wait.cancel()
            return took_s

    assert asyncio.run(scenario()) < 0.5


def test_who_waits_for_long_looks_ten_times_a_second(
    redis_url: str, connection: redis.Redis
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            wait = asyncio.create_task((await client.caption(URL)).result())
            await asyncio.sleep(1)
            before = connection.info("stats")["total_commands_processed"]
            await asyncio.sleep(1)
            commands = connection.info("stats")["total_commands_processed"] - before
            # Few for each look.
            assert 5 <= commands <= 100
            wait.cancel()

    asyncio.run(scenario())


def test_one_job_may_be_awaited_by_many(redis_url: str, finish: Finish) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            job = await client.caption(URL)
            again = client.job(job.id)
            waits = [asyncio.create_task(one.result(timeout=9)) for one in (job, again, again)]
            await asyncio.sleep(0.1)
            finish(job.id, [{"text": "x"}])
            assert await asyncio.gather(*waits) == ["x", "x", "x"]

    asyncio.run(scenario())


def test_a_wait_that_is_cancelled_leaves_the_job_and_ends_the_watcher(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            tasks = len(asyncio.all_tasks())
            job = await client.caption(URL)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job.result(), timeout=0.1)
            # As a web server cancels the handler of a request whose client is gone.
            handler = asyncio.create_task(job.result())
            await asyncio.sleep(0.05)
            handler.cancel()
            with pytest.raises(asyncio.CancelledError):
                await handler
            await asyncio.sleep(0.3)
            assert len(asyncio.all_tasks()) == tasks
            assert await job.status() is State.QUEUED
            finish(job.id, [{"text": "x"}])
            assert await job.result(timeout=5) == "x"

    asyncio.run(scenario())


def test_an_id_that_cannot_be_looked_up_harms_nobody_else(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    connection.rpush(contract.RESULT_KEY_PREFIX + "alien", "no result")

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            jobs = [await client.caption(URL) for _ in range(5)]
            finish_all(finish, [job.id for job in jobs])
            jobs.insert(2, client.job("alien"))
            jobs.insert(4, client.job("\ud800"))
            ends = await asyncio.gather(*(j.result(9) for j in jobs), return_exceptions=True)
            assert [one for one in ends if isinstance(one, str)] == [
                f"of {job.id}" for job in jobs if len(job.id) == 36
            ]
            assert isinstance(ends[2], JobUnknown)
            assert isinstance(ends[4], UnicodeEncodeError)

    asyncio.run(scenario())


def test_redis_that_goes_away_is_told_to_all_who_wait() -> None:
    async def scenario() -> None:
        with running_redis() as url:
            client = AsyncClient(url)
            jobs = [await client.caption(URL) for _ in range(20)]
            waits = [asyncio.create_task(job.result()) for job in jobs]
            await asyncio.sleep(0.2)
        ends = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 60)
        assert {type(end) for end in ends} == {ConnectionFailed}
        # Each has an exception, and a traceback, of its own.
        assert len({id(end) for end in ends}) == 20
        await client.close()

    asyncio.run(scenario())


def test_closing_tells_those_who_still_wait_and_is_done_once(redis_url: str) -> None:
    async def scenario() -> None:
        client = AsyncClient(redis_url)
        job = await client.caption(URL)
        wait = asyncio.create_task(job.result())
        await asyncio.sleep(0.1)
        await asyncio.gather(client.close(), client.close())
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await asyncio.wait_for(wait, 5)
        for call in (job.result, job.status, lambda: client.caption(URL)):
            with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
                await call()
        await client.close()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_one_client_serves_one_event_loop_after_another(redis_url: str, finish: Finish) -> None:
    client = AsyncClient(redis_url)

    async def scenario() -> None:
        job = await client.caption(URL)
        # It is left waiting when its loop ends.
        left = asyncio.create_task(job.result())
        await asyncio.sleep(0.05)
        finish(job.id, [{"text": "x"}])
        assert await client.job(job.id).result(timeout=5) == "x"
        assert await left == "x"
        waiting = await client.caption(URL)
        asyncio.get_running_loop().left = asyncio.create_task(waiting.result())  # type: ignore
        await asyncio.sleep(0.05)

    for _ in range(3):
        asyncio.run(scenario())
    asyncio.run(client.close())


def test_one_client_serves_event_loops_side_by_side(redis_url: str, finish: Finish) -> None:
    client = AsyncClient(redis_url)
    all_wait = threading.Barrier(3)

    async def ask() -> str:
        job = await client.caption(URL)
        wait = asyncio.create_task(job.result(timeout=20))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(all_wait.wait)
        finish(job.id, [{"text": threading.current_thread().name}])
        return await wait

    def in_a_thread() -> bool:
        return asyncio.run(ask()) == threading.current_thread().name

    with ThreadPoolExecutor(3) as threads:
        assert all(done.result(timeout=30) for done in [threads.submit(in_a_thread) for _ in "abc"])
    asyncio.run(client.close())


# Submitting.


def test_an_async_iterable_is_read_on_the_loop_and_does_not_hold_it_up(
    redis_url: str, finish: Finish
) -> None:
    loop_thread = threading.get_ident()

    async def items() -> AsyncIterator[dict[str, str]]:
        for number, item in enumerate(numbered(30_000)):
            assert threading.get_ident() == loop_thread
            if number % 10_000 == 0:
                await asyncio.sleep(0)
            yield item

    totals: list[int] = []

    def told(total: int) -> None:
        assert threading.get_ident() == loop_thread
        totals.append(total)

    async def longest_pause(pauses: list[float]) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - began)

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            pauses: list[float] = []
            meter = asyncio.create_task(longest_pause(pauses))
            batch = await client.submit_batch(items(), chunk_items=1000, on_submitted=told)
            assert totals[-1] == 30_000
            meter.cancel()
            # The 95th percentile: other programs take the processor as well.
            assert sorted(pauses)[-len(pauses) // 20] < 0.1
            finish_chunks(finish, batch.id, 30_000, 1000)
            results = [result async for result in batch.results(timeout=30)]
            assert [result.text for result in results] == [str(n) for n in range(30_000)]

    asyncio.run(scenario())


def test_no_more_is_taken_than_is_submitted_soon(redis_url: str) -> None:
    taken = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield URL

    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_bulk=1000)
        client = AsyncClient(settings=settings)
        batches = [asyncio.create_task(client.submit_batch(endless())) for _ in range(10)]
        await asyncio.sleep(1.5)
        assert taken < 100_000
        before = taken
        await asyncio.sleep(0.5)
        assert taken == before
        # Others are submitted while these, more than there are threads for calls, wait for room.
        assert await (await client.caption(URL)).status() is State.QUEUED
        for submitting in batches:
            submitting.cancel()
        await asyncio.wait(batches)
        # Room lets the thread end.
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()
        await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_submission_that_is_cancelled_leaves_a_batch_of_what_is_in(
    redis_url: str, asynchronous: bool
) -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            await asyncio.sleep(0.001)
            yield URL

    def endless_plain() -> Iterator[str]:
        while True:
            time.sleep(0.001)
            yield URL

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            items = endless() if asynchronous else endless_plain()
            call = client.submit_batch(items, batch_id="cut", chunk_items=4)
            submitting = asyncio.create_task(call)
            await asyncio.sleep(0.5)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
            batch = client.batch("cut")
            while not (progress := await batch.progress()).submitted:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert 0 < progress.total == (await batch.progress()).total

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_closing_stops_a_submission_and_says_so(redis_url: str) -> None:
    async def stuck() -> AsyncIterator[str]:
        yield URL
        await asyncio.sleep(3600)

    async def scenario() -> None:
        client = AsyncClient(redis_url)
        submitting = asyncio.create_task(client.submit_batch(stuck()))
        await asyncio.sleep(0.2)
        await client.close()
        with pytest.raises(ConnectionFailed, match="AsyncClient was closed"):
            await asyncio.wait_for(submitting, 5)

    asyncio.run(scenario())


def test_what_an_async_iterable_raises_is_the_callers(redis_url: str) -> None:
    async def broken() -> AsyncIterator[str]:
        for number in range(64):
            if number == 40:
                await asyncio.sleep(0.1)
            yield URL
        await asyncio.sleep(0.1)
        raise LookupError("no more rows")

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            with pytest.raises(LookupError, match="no more rows"):
                await client.submit_batch(broken(), batch_id="cut")
            progress = await client.batch("cut").progress()
            assert (progress.total, progress.submitted) == (64, True)

    asyncio.run(scenario())


def test_calls_that_wait_for_room_hold_up_no_others(redis_url: str, finish: Finish) -> None:
    async def scenario() -> None:
        settings = ClientSettings(redis_url=redis_url, max_queued_interactive=1)
        async with AsyncClient(settings=settings) as client:
            first = await client.caption(URL)
            waiting = [
                asyncio.create_task(client.caption(URL, when_full="wait")) for _ in range(20)
            ]
            await asyncio.sleep(0.2)
            with pytest.raises(QueueFull) as raised:
                await client.caption(URL)
            assert raised.value.retry_after_s > 0
            finish(first.id, [{"text": "x"}])
            assert await asyncio.wait_for(first.result(), 5) == "x"
            for _ in waiting:
                done, _ = await asyncio.wait(waiting, return_when="FIRST_COMPLETED", timeout=9)
                waiting = [one for one in waiting if one not in done]
                for task in done:
                    finish((await task).id, [{"text": "x"}])
            assert not waiting

    asyncio.run(scenario())


# Batches.


def test_results_of_a_batch_are_read_as_they_are_used_up(
    redis_url: str, connection: redis.Redis, finish: Finish
) -> None:
    def pages() -> int:
        return int(connection.info("commandstats").get("cmdstat_mget", {}).get("calls", 0))

    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            batch = await client.submit_batch(numbered(2000), chunk_items=8)
            finish_chunks(finish, batch.id, 2000, 8)
            before = pages()
            results = batch.results(timeout=5)
            await anext(results)
            await asyncio.sleep(0.2)
            assert pages() == before + 1
            assert len([result async for result in results]) == 1999

    asyncio.run(scenario())


def test_results_come_while_the_batch_goes_on_and_hold_no_thread(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            batches = [await client.submit_batch(numbered(3), chunk_items=1) for _ in range(20)]
            readers = [batch.results(timeout=20) for batch in batches]
            firsts = [asyncio.ensure_future(anext(reader)) for reader in readers]
            await asyncio.sleep(0.3)
            # More of them wait than there are threads.
            assert await asyncio.wait_for(batches[0].progress(), 5)
            for batch in batches:
                finish_chunks(finish, batch.id, 2, 1)
            assert [first.text for first in await asyncio.gather(*firsts)] == ["0"] * 20
            assert (await anext(readers[0])).text == "1"
            with pytest.raises(WaitTimeout, match=r"within 0.1 s \(2 of 3 items are done\)"):
                async for _ in batches[0].results(timeout=0.1):
                    pass
            await batches[0].cancel()
            assert (await anext(readers[0])).error.code == "cancelled"  # type: ignore[union-attr]

    asyncio.run(scenario())


def test_a_job_cancelled_by_somebody_else_ends_the_wait(redis_url: str, client: Client) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as another:
            job = await another.caption(URL)
            wait = asyncio.create_task(job.result(timeout=10))
            await asyncio.sleep(0.1)
            client.job(job.id).cancel()
            with pytest.raises(JobCancelled):
                await wait

    asyncio.run(scenario())
