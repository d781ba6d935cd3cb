"""AsyncClient: the methods, results and errors of Client."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from demo.stack import free_port
from producer import (
    AsyncBatch,
    AsyncClient,
    AsyncJob,
    Batch,
    BliplineError,
    Candidate,
    Client,
    ClientSettings,
    ConnectionFailed,
    Description,
    FilterResult,
    Job,
    Match,
    ScoredText,
    State,
    WaitTimeout,
    contract,
)
from producer.ledger.ledger import Ledger

from .jobs import URL, Finish, finish_chunks, numbered

STRANGER = "01890000-0000-7000-8000-0000000000zz"
AnyClient = Client | AsyncClient
Scenario = Callable[[Any, Finish], Coroutine[Any, Any, Any]]

#: The result of a description, with a field of a newer worker, and its value.
DESCRIPTION = {
    "text": "A cat.",
    "characters": 6,
    "words": 2,
    "candidates": [
        {"text": "A cat.", "prompt": "", "round": 1, "score": 0.9, "used": True, "new": 1}
    ],
    "rounds": 1,
    "seconds": 0.25,
    "ranked_by": "match",
    "new": 1,
}
DESCRIBED = Description(
    "A cat.", 6, 2, [Candidate("A cat.", "", 1, 0.9, used=True)], 1, 0.25, "match"
)

#: The result of CapFilt, with a field of a newer worker, and its value.
WEB = {"text": "a cat", "source": "web", "probability": 0.9, "cosine": 0.1}
SYNTHETIC = {"text": "a dog", "source": "synthetic", "probability": 0.2, "cosine": 0.0, "new": 1}
FILTERED = {"text": "a cat", "accepted": [WEB], "rejected": [SYNTHETIC], "new": 1}
FILTER_RESULT = FilterResult(
    "a cat",
    [ScoredText("a cat", "web", 0.9, 0.1)],
    [ScoredText("a dog", "synthetic", 0.2, 0.0)],
)


async def got(value: Any) -> Any:
    """Return a value of either client."""
    return await value if inspect.isawaitable(value) else value


async def listed(results: Any) -> list[Any]:
    """Return all results of either kind of batch."""
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


@pytest.fixture(params=[Client, AsyncClient])
def either(request: pytest.FixtureRequest, redis_url: str) -> AnyClient:
    client: AnyClient = request.param(redis_url)
    return client


def test_each_method_returns_the_value_of_its_task(
    either: Any, finish: Finish, connection: redis.Redis
) -> None:
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
            (either.describe(URL, prompts=[""], detail="low"), DESCRIPTION, DESCRIBED),
            (either.capfilt(URL, "a cat", captions=2), FILTERED, FILTER_RESULT),
        ):
            job = await got(call)
            assert await got(job.status()) is State.QUEUED
            (row,) = Ledger(connection).records([job.id])
            assert row is not None
            tasks.append(json.loads(row.payload)["task"])
            finish(job.id, [result])
            assert await got(job.result(timeout=5)) == value
            assert await got(either.job(job.id).status()) is State.DONE
        assert tasks == ["caption", "vqa", "chat", "match", "embed", "describe", "capfilt"]

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


def test_a_batch_is_cancelled_and_retried(either: Any, finish: Finish) -> None:
    async def scenario() -> None:
        batch = await got(either.submit_batch(numbered(2), chunk_items=1))
        finish(f"{batch.id}:0", [contract.failure("internal", "once")])
        await got(batch.cancel())
        assert (await got(batch.progress())).cancelled
        assert await got(batch.retry_failed()) == 2
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

        async def start(client: AnyClient = client) -> None:
            await scenario(client, finish)

        raised.append(error_of(client, start()))
    assert raised[0] == raised[1]


def error_of(client: AnyClient, scenario: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Return class, code and message of the error of a scenario, without ids."""
    try:
        run(client, scenario)
    except Exception as error:
        text = re.sub(r"(job|batch) [0-9a-f-]{36}", r"\1 ID", str(error))
        return type(error), getattr(error, "code", None), text
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_unreachable_redis_is_the_same_error_everywhere(kind: Callable[[str], Any]) -> None:
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
def test_every_method_exists_with_a_docstring_and_the_same_parameters(
    asynchronous: type, synchronous: type
) -> None:
    for name, method in inspect.getmembers(synchronous, inspect.isfunction):
        # `value` is for the clients alone, `dead` for operators.
        if not name.startswith("_") and name not in ("value", "dead"):
            assert getattr(asynchronous, name).__doc__, name
            assert list(inspect.signature(getattr(asynchronous, name)).parameters) == list(
                inspect.signature(method).parameters
            )


def test_closing_twice_ends_waiting_calls_with_an_error(redis_url: str) -> None:
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
        # The wait is pending when its loop ends.
        first = asyncio.create_task(job.result())
        await asyncio.sleep(0.05)
        finish(job.id, [{"text": "x"}])
        assert await client.job(job.id).result(timeout=5) == "x"
        assert await first == "x"
        waiting = await client.caption(URL)
        asyncio.get_running_loop().pending = asyncio.create_task(waiting.result())  # type: ignore
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


def test_results_of_a_batch_are_read_a_page_at_a_time(
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


def test_waiting_for_results_of_a_running_batch_holds_no_thread(
    redis_url: str, finish: Finish
) -> None:
    async def scenario() -> None:
        async with AsyncClient(redis_url) as client:
            batches = [await client.submit_batch(numbered(3), chunk_items=1) for _ in range(20)]
            readers = [batch.results(timeout=20) for batch in batches]
            firsts = [asyncio.ensure_future(anext(reader)) for reader in readers]
            await asyncio.sleep(0.3)
            # More readers wait than there are threads.
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
