"""The views of a pending answer, without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from producer import AsyncClient, InvalidInput, QueueFull, State
from producer.contract import Task
from producer.page import views
from producer.page.ask import NO_DIALOGUE, AskHandlers
from producer.page.options import FIELDS
from producer.page.pending import PendingAnswers

URL = "https://example.com/a.png"
OPTIONS = [value for _, value, _ in FIELDS.values()]
REQUEST: Any = SimpleNamespace(username="acme", session_hash="p1")
UNCHANGED = gr.skip()


async def run_handler(
    redis_url: str, handler: Callable[[AskHandlers], Any], then: Callable[[PendingAnswers], None]
) -> tuple[list[Any], list[State]]:
    """Call `then` once the job is queued; return all outputs, and the states of all jobs."""
    pending = PendingAnswers()
    async with AsyncClient(redis_url) as client:
        ids: list[str] = []
        submit = client.submit

        async def record_id(*args: Any, **options: Any) -> Any:
            ids.append(options["job_id"])
            job = await submit(*args, **options)
            asyncio.get_running_loop().call_soon(then, pending)
            return job

        client.submit = record_id  # type: ignore[method-assign]
        gateway: Any = SimpleNamespace(client=client)
        outputs = [output async for output in handler(AskHandlers(gateway, pending))]
        return outputs, [await client.job(job_id).status() for job_id in ids]


def caption(handlers: AskHandlers) -> Any:
    return handlers.caption(REQUEST, None, URL, "", *OPTIONS)


def test_a_job_is_cancelled_once_another_image_is_chosen(redis_url: str) -> None:
    def choose_other(pending: PendingAnswers) -> None:
        pending.choose_image("p1", "b")

    outputs, states = asyncio.run(run_handler(redis_url, caption, choose_other))
    assert outputs == [
        views.for_image(URL, views.WAITING),
        views.for_image(URL, ""),
        UNCHANGED,
    ]
    assert states == [State.CANCELLED]


def test_a_replaced_answer_shows_no_further_view(redis_url: str) -> None:
    def replace(pending: PendingAnswers) -> None:
        pending.add("p1", Task.CAPTION, URL)

    outputs, states = asyncio.run(run_handler(redis_url, caption, replace))
    assert outputs == [views.for_image(URL, views.WAITING), UNCHANGED]
    assert states == [State.CANCELLED]


def test_a_dialogue_belongs_to_its_image_and_a_failed_question_is_restored(
    redis_url: str,
) -> None:
    outputs: list[Any] = []

    async def chat() -> None:
        async with AsyncClient(redis_url) as client:
            gateway: Any = SimpleNamespace(client=client)
            handlers = AskHandlers(gateway, PendingAnswers())
            dialogue = handlers.chat(REQUEST, None, "nowhere", " how? ", NO_DIALOGUE, *OPTIONS)
            async for output in dialogue:
                outputs.append(output)

    with pytest.raises(gr.Error, match="must begin with https"):
        asyncio.run(chat())
    (waiting, _, field), (failed, _, restored) = outputs
    assert "how?" in waiting
    assert "how?" not in failed
    assert (field, restored) == ("", "how?")
    assert all('cite="nowhere"' in view for view in (waiting, failed))


def test_an_adapter_is_a_field_of_the_item() -> None:
    items: list[Any] = []

    async def submit(item: Any, task: Task, **options: Any) -> None:
        items.append(item)
        assert "adapter" not in options
        raise InvalidInput("enough")

    async def upload(image: Any, account: str) -> str:
        return "blob:0"

    async def run() -> None:
        gateway: Any = SimpleNamespace(client=SimpleNamespace(upload=upload, submit=submit))
        for name in ("red", " red ", "", " ", None):
            handlers = AskHandlers(gateway, PendingAnswers())
            views_of = handlers.caption(REQUEST, None, URL, "a", *OPTIONS[:-1], name)
            with pytest.raises(gr.Error, match="Enough"):
                async for _ in views_of:
                    pass

    asyncio.run(run())
    named = {"image": "blob:0", "prompt": "a", "adapter": "red"}
    assert items == [named, named, *[{"image": "blob:0", "prompt": "a"}] * 3]


#: Each handler, and whether its text can grow.
HANDLERS: list[tuple[Callable[[AskHandlers], Any], bool]] = [
    (caption, True),
    (lambda handlers: handlers.ask(REQUEST, None, URL, "what?", *OPTIONS), True),
    (lambda handlers: handlers.chat(REQUEST, None, URL, "what?", NO_DIALOGUE, *OPTIONS), True),
    (lambda handlers: handlers.describe(REQUEST, None, URL, "low", "", *OPTIONS), False),
    (lambda handlers: handlers.match(REQUEST, None, URL, "a cat"), False),
]


@pytest.mark.parametrize(("handler", "grows"), HANDLERS)
def test_workers_publish_only_texts_that_the_page_lets_grow(
    handler: Callable[[AskHandlers], Any], grows: bool
) -> None:
    submitted: list[dict[str, Any]] = []

    async def upload(source: str, **_: Any) -> str:
        return source

    async def submit(*_: Any, **options: Any) -> None:
        submitted.append(options)
        raise QueueFull("the queue is full")

    async def run() -> None:
        gateway: Any = SimpleNamespace(client=SimpleNamespace(upload=upload, submit=submit))
        async for _ in handler(AskHandlers(gateway, PendingAnswers())):
            pass

    with pytest.raises(gr.Error, match="The queue is full"):
        asyncio.run(run())
    (options,) = submitted
    assert options.get("stream", False) == grows
