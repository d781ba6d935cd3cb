"""One picture: captions, questions, dialogues and matches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from ..contract import MAX_TEXTS, State, Task
from ..gateway.metadata import RequestMetadata
from ..gateway.shutdown import wait_unless
from ..gateway.state import Gateway
from ..gateway.tenants import Tenant
from ..job import Result
from ..ledger.ids import new_id
from . import images, views
from .messages import as_sentence, problem, shown_as_error
from .options import DEADLINE, chosen
from .pending import PendingAnswers

#: Seconds that the page waits for an answer at most, where no deadline is given.
WAIT_S: Final = 60.0
#: Seconds beyond a deadline in which the worker says that it has passed.
GRACE_S: Final = 2.0
#: Pictures that are read into memory at once.
MAX_READ: Final = 8

#: The picture that is spoken of, and the questions and their answers, oldest first.
Dialogue = tuple[str, list[tuple[str, str]]]
NO_DIALOGUE: Final[Dialogue] = ("", [])


@dataclass(frozen=True, slots=True)
class Views:
    """What stands where an answer will be; a tuple begins with that."""

    answered: Callable[[Result, float], Any]
    waiting: Any = views.WAITING
    #: After an error.
    failed: Any = ""
    #: Where it is no longer wanted.
    over: Any = ""
    #: While another picture is chosen.
    otherwise: str = ""

    def beside(self, about: str, shown: Any) -> Any:
        """One of them, as what is said of a picture."""
        if isinstance(shown, tuple):
            return self.beside(about, shown[0]), *shown[1:]
        return views.beside(about, shown, self.otherwise)


TEXT: Final = Views(lambda result, seconds: views.answer(result.text or "", seconds))
MATCHES: Final = Views(lambda result, seconds: views.bars(result.matches or [], seconds))


class AskHandlers:
    """What the buttons about one picture do; each ends in time, or raises gr.Error.

    One event both waits and answers: what two say may reach the browser in either order.
    """

    def __init__(self, gateway: Gateway, places: PendingAnswers) -> None:
        self._gateway = gateway
        self._places = places
        self._reading = asyncio.Semaphore(MAX_READ)

    async def caption(
        self, request: gr.Request, picture: Any, url: str, prompt: str, *options: Any
    ) -> AsyncIterator[str]:
        """The caption, with its statistics."""
        item = {"prompt": prompt} if prompt and prompt.strip() else {}
        async for shown in self._ask(request, Task.CAPTION, picture, url, item, options):
            yield shown

    async def ask(
        self, request: gr.Request, picture: Any, url: str, question: str, *options: Any
    ) -> AsyncIterator[str]:
        """The answer, with its statistics."""
        item = {"question": question_in(question)}
        async for shown in self._ask(request, Task.VQA, picture, url, item, options):
            yield shown

    async def chat(
        self,
        request: gr.Request,
        picture: Any,
        url: str,
        question: str,
        dialogue: Dialogue,
        *options: Any,
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        """The dialogue's view, the dialogue, and an empty field for what is asked next."""
        about = images.which(picture, url)
        # Another picture begins another dialogue.
        turns = dialogue[1] if dialogue[0] == about else []
        history = [{"question": asked, "answer": reply} for asked, reply in turns]
        question = question_in(question)

        def answered(result: Result, seconds: float) -> tuple[Any, Any, Any]:
            longer = [*turns, (question, result.text or "")]
            return views.dialogue(longer, seconds), (about, longer), gr.skip()

        shown = Views(
            answered,
            waiting=(views.dialogue(turns, asked=question), gr.skip(), ""),
            failed=(views.dialogue(turns), gr.skip(), question),
            over=(views.dialogue(turns), gr.skip(), gr.skip()),
            otherwise=views.dialogue([]),
        )
        item = {"question": question, "history": history}
        async for view in self._ask(request, Task.CHAT, picture, url, item, options, shown):
            yield view

    async def clear(self, request: gr.Request) -> tuple[str, Dialogue]:
        """An empty dialogue."""
        self._places.replace(request.session_hash or "", Task.CHAT)
        return views.dialogue([]), NO_DIALOGUE

    async def turn(self, request: gr.Request, picture: Any, url: str) -> None:
        """Another picture is chosen: what was asked about others is no longer waited for."""
        self._places.turn(request.session_hash or "", images.which(picture, url))

    async def match(
        self, request: gr.Request, picture: Any, url: str, texts: str
    ) -> AsyncIterator[str]:
        """Bars of probability, the likeliest text first."""
        lines = [line.strip() for line in (texts or "").splitlines() if line.strip()]
        if not lines:
            raise problem("Write one text a line to compare the picture with.")
        if len(lines) > MAX_TEXTS:
            raise problem(f"At most {MAX_TEXTS} texts can be compared at once, not {len(lines):,}.")
        async for shown in self._ask(
            request, Task.MATCH, picture, url, {"texts": lines}, shown=MATCHES
        ):
            yield shown

    async def _ask(
        self,
        request: gr.Request,
        task: Task,
        picture: Any,
        url: str,
        item: dict[str, Any],
        options: Sequence[Any] = (),
        shown: Views = TEXT,
    ) -> AsyncIterator[Any]:
        """What is shown, in turn; no answer where it is no longer wanted."""
        began = time.monotonic()
        about = images.which(picture, url)
        asked = self._places.ask(request.session_hash or "", task, about)
        yield shown.beside(about, shown.waiting)
        try:
            with shown_as_error():
                wanted = chosen(options) if options else {}
                item = {"image": await self._image(picture, url), **item}
                result = await self._answer(request.username or "", task, item, wanted, asked.over)
        except gr.Error:
            if not asked.over.is_set():
                yield shown.beside(about, shown.failed)
                raise
            result = None
        if result is not None:
            yield shown.beside(about, shown.answered(result, time.monotonic() - began))
        elif not asked.replaced:
            yield shown.beside(about, shown.over)
        # What is said last Gradio says once more, when something else may stand there.
        yield _unchanged(shown.over)

    async def _image(self, picture: Any, url: str) -> str:
        async with self._reading:
            source = await asyncio.to_thread(images.source, picture, url)
            return await self._gateway.client.upload(source)

    async def _answer(
        self,
        name: str,
        task: Task,
        item: dict[str, Any],
        options: dict[str, Any],
        over: asyncio.Event,
    ) -> Result | None:
        job = await self._gateway.client.submit(
            item,
            task,
            job_id=Tenant(name).job_id(new_id()),
            submitter=name,
            note=RequestMetadata.now(task).encode(),
            **options,
        )
        deadline_s = options.get(DEADLINE)
        wait_s = WAIT_S if deadline_s is None else min(WAIT_S, deadline_s)
        look = await wait_unless(over, job.look(wait_s + GRACE_S))
        if look is None or over.is_set():
            await job.cancel()
            return None
        state, result = look
        if result is None:
            await job.cancel()
            raise problem(_waited(state, wait_s))
        if result.error is not None:
            raise problem(as_sentence(result.error.message))
        return result


def _unchanged(shown: Any) -> Any:
    return tuple(map(_unchanged, shown)) if isinstance(shown, tuple) else gr.skip()


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
