"""One picture: captions, questions, dialogues and matches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from ..contract import MAX_TEXTS, State, Task
from ..gateway.caller import Caller
from ..gateway.notes import Noted
from ..gateway.parts import Gateway
from ..gateway.stopping import unless
from ..ids import new_id
from ..job import Result
from . import pictures, views
from .leaving import Leaving
from .options import DEADLINE, chosen
from .sayings import as_sentence, problem, shown_as_error

#: Seconds that the page waits for an answer at most, where no deadline is given.
WAIT_S: Final = 60.0
#: Seconds beyond a deadline in which the worker says that it has passed.
GRACE_S: Final = 2.0
#: Pictures that are read into memory at once.
MAX_READ: Final = 8

#: The picture that is spoken of, and the questions and their answers, oldest first.
Dialogue = tuple[str, list[tuple[str, str]]]
NO_DIALOGUE: Final[Dialogue] = ("", [])


class Questions:
    """What the buttons about one picture do; each ends in time, or raises gr.Error."""

    def __init__(self, gateway: Gateway, leaving: Leaving) -> None:
        self._gateway = gateway
        self._leaving = leaving
        self._reading = asyncio.Semaphore(MAX_READ)

    async def caption(
        self, request: gr.Request, picture: Any, url: str, prompt: str, *options: Any
    ) -> str:
        """The caption, with its statistics."""
        item = {"prompt": prompt} if prompt and prompt.strip() else {}
        result, seconds = await self._ask(request, Task.CAPTION, picture, url, item, options)
        return views.answer(result.text or "", seconds)

    async def ask(
        self, request: gr.Request, picture: Any, url: str, question: str, *options: Any
    ) -> str:
        """The answer, with its statistics."""
        item = {"question": question_in(question)}
        result, seconds = await self._ask(request, Task.VQA, picture, url, item, options)
        return views.answer(result.text or "", seconds)

    async def chat(
        self,
        request: gr.Request,
        picture: Any,
        url: str,
        question: str,
        dialogue: Dialogue,
        *options: Any,
    ) -> tuple[str, Dialogue, str]:
        """The dialogue and its view with the new answer, and an empty field for what is next."""
        about = (url or "").strip() or str(picture and picture["path"])
        # Another picture begins another dialogue.
        turns = dialogue[1] if dialogue[0] == about else []
        history = [{"question": asked, "answer": reply} for asked, reply in turns]
        item = {"question": question_in(question), "history": history}
        result, seconds = await self._ask(request, Task.CHAT, picture, url, item, options)
        turns = [*turns, (question.strip(), result.text or "")]
        return views.dialogue(turns, seconds), (about, turns), ""

    async def match(self, request: gr.Request, picture: Any, url: str, texts: str) -> str:
        """Bars of probability, the likeliest text first."""
        lines = [line.strip() for line in (texts or "").splitlines() if line.strip()]
        if not lines:
            raise problem("Write one text a line to compare the picture with.")
        if len(lines) > MAX_TEXTS:
            raise problem(f"At most {MAX_TEXTS} texts can be compared at once, not {len(lines):,}.")
        result, seconds = await self._ask(request, Task.MATCH, picture, url, {"texts": lines})
        return views.bars(result.matches or [], seconds)

    async def _ask(
        self,
        request: gr.Request,
        task: Task,
        picture: Any,
        url: str,
        item: dict[str, Any],
        options: Sequence[Any] = (),
    ) -> tuple[Result, float]:
        began = time.monotonic()
        with shown_as_error():
            wanted = chosen(options) if options else {}
            item = {"image": await self._image(picture, url), **item}
            with self._leaving.of(request.session_hash or "") as left:
                result = await self._answer(request.username or "", task, item, wanted, left)
        return result, time.monotonic() - began

    async def _image(self, picture: Any, url: str) -> str:
        async with self._reading:
            source = await asyncio.to_thread(pictures.source, picture, url)
            return await self._gateway.client.upload(source)

    async def _answer(
        self,
        name: str,
        task: Task,
        item: dict[str, Any],
        options: dict[str, Any],
        left: asyncio.Event,
    ) -> Result:
        job = await self._gateway.client.submit(
            item,
            task,
            job_id=Caller(name).job(new_id()),
            submitter=name,
            note=Noted.now(task).encode(),
            **options,
        )
        deadline_s = options.get(DEADLINE)
        wait_s = WAIT_S if deadline_s is None else min(WAIT_S, deadline_s)
        try:
            look = await unless(left, job.look(wait_s + GRACE_S))
        except asyncio.CancelledError:
            # Another picture was chosen.
            await asyncio.shield(job.cancel())
            raise
        if look is None:
            await job.cancel()
            raise problem("The page was left before the answer came.")
        state, result = look
        if result is None:
            await job.cancel()
            raise problem(_waited(state, wait_s))
        if result.error is not None:
            raise problem(as_sentence(result.error.message))
        return result


def question_in(field: str) -> str:
    """The question that was typed; raises gr.Error where there is none."""
    if not field or not field.strip():
        raise problem("Write a question first.")
    return field.strip()


def _waited(state: State, wait_s: float) -> str:
    if state is State.QUEUED:
        return (
            f"No worker has begun it after {wait_s:g} s, so it was cancelled. "
            "Is a worker running, or is there much before it in the queue?"
        )
    return f"There was no answer after {wait_s:g} s, so it was cancelled. Try again later."
