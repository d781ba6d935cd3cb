"""What a place shows, one view after the other, where nobody works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from producer import AsyncClient, State
from producer.contract import Task
from producer.page import views
from producer.page.ask import NO_DIALOGUE, AskHandlers
from producer.page.options import FIELDS
from producer.page.pending import PendingAnswers

URL = "https://example.com/a.png"
OPTIONS = [value for _, value, _ in FIELDS.values()]
REQUEST: Any = SimpleNamespace(username="acme", session_hash="p1")
UNCHANGED = gr.skip()


async def shown(
    redis_url: str, asked: Callable[[AskHandlers], Any], then: Callable[[PendingAnswers], None]
) -> tuple[list[Any], list[State]]:
    """The views, where something happens once the job is queued; and the states of all jobs."""
    places = PendingAnswers()
    async with AsyncClient(redis_url) as client:
        ids: list[str] = []
        submit = client.submit

        async def noted(*args: Any, **named: Any) -> Any:
            ids.append(named["job_id"])
            job = await submit(*args, **named)
            asyncio.get_running_loop().call_soon(then, places)
            return job

        client.submit = noted  # type: ignore[method-assign]
        gateway: Any = SimpleNamespace(client=client)
        seen = [view async for view in asked(AskHandlers(gateway, places))]
        return seen, [await client.job(job_id).status() for job_id in ids]


def caption(questions: AskHandlers) -> Any:
    return questions.caption(REQUEST, None, URL, "", *OPTIONS)


def test_nothing_is_waited_for_once_another_picture_is_chosen(redis_url: str) -> None:
    seen, states = asyncio.run(shown(redis_url, caption, lambda places: places.turn("p1", "b")))
    assert seen == [views.beside(URL, views.WAITING), views.beside(URL, ""), UNCHANGED]
    assert states == [State.CANCELLED]


def test_what_was_replaced_shows_nothing_more(redis_url: str) -> None:
    def again(places: PendingAnswers) -> None:
        places.ask("p1", Task.CAPTION, URL)

    seen, states = asyncio.run(shown(redis_url, caption, again))
    assert seen == [views.beside(URL, views.WAITING), UNCHANGED]
    assert states == [State.CANCELLED]


def test_a_dialogue_stands_beside_its_picture_and_a_question_that_failed_is_given_back(
    redis_url: str,
) -> None:
    seen: list[Any] = []

    async def ask() -> None:
        async with AsyncClient(redis_url) as client:
            gateway: Any = SimpleNamespace(client=client)
            questions = AskHandlers(gateway, PendingAnswers())
            asked = questions.chat(REQUEST, None, "nowhere", " how? ", NO_DIALOGUE, *OPTIONS)
            async for view in asked:
                seen.append(view)

    with pytest.raises(gr.Error, match="begins with https"):
        asyncio.run(ask())
    (waiting, _, field), (failed, _, given_back) = seen
    assert "how?" in waiting
    assert "how?" not in failed
    assert (field, given_back) == ("", "how?")
    assert all('cite="nowhere"' in view for view in (waiting, failed))
