"""Handlers of the tabs about a single image: captions, questions, dialogues and matches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from ..contract import MAX_PROMPTS, MAX_TEXTS, Detail, ItemPayload, Task, TurnPayload
from ..gateway.state import Gateway
from ..job import Result
from . import images, views
from .messages import errors_on_page, page_error
from .options import parse_options, pop_adapter
from .page_jobs import PageJobs
from .pending import PendingAnswers

#: The key of the image, and the turns of the dialogue, oldest first.
Dialogue = tuple[str, list[tuple[str, str]]]
NO_DIALOGUE: Final[Dialogue] = ("", [])


@dataclass(frozen=True, slots=True)
class AnswerViews:
    """The outputs of a handler in each state; in a tuple, the first element is the view."""

    answered: Callable[[Result, float], Any]
    #: Returns the outputs for the text so far; None if the answer has no text that grows.
    growing: Callable[[str], Any] | None = None
    waiting: Any = views.WAITING
    failed: Any = ""
    cancelled: Any = ""
    #: Shown while another image is chosen.
    fallback: str = ""

    def for_image(self, image: str, outputs: Any) -> Any:
        """Return outputs whose view is shown only while the image is chosen."""
        if isinstance(outputs, tuple):
            return self.for_image(image, outputs[0]), *outputs[1:]
        return views.for_image(image, outputs, self.fallback)


TEXT: Final = AnswerViews(
    lambda result, seconds: views.answer(result.text or "", seconds), views.growing_answer
)
MATCHES: Final = AnswerViews(lambda result, seconds: views.bars(result.matches or [], seconds))


DESCRIPTION: Final = AnswerViews(
    # A worker without a model returns a text alone.
    lambda result, seconds: (
        views.description(result.description, seconds)
        if result.description is not None
        else views.answer(result.text or "", seconds)
    )
)


class AskHandlers:
    """Event handlers; each ends before its deadline, or raises gr.Error.

    A single event shows both the waiting indicator and the answer: the outputs of two events may
    reach the browser in either order.
    """

    def __init__(self, gateway: Gateway, pending: PendingAnswers) -> None:
        self._jobs = PageJobs(gateway)
        self._pending = pending

    async def caption(
        self, request: gr.Request, upload: Any, url: str, prompt: str, *options: Any
    ) -> AsyncIterator[str]:
        """Yield the view of a caption."""
        item: ItemPayload = {"prompt": prompt} if prompt and prompt.strip() else {}
        async for view in self._run(request, Task.CAPTION, upload, url, item, options):
            yield view

    async def describe(
        self, request: gr.Request, upload: Any, url: str, detail: str, prompts: str, *options: Any
    ) -> AsyncIterator[str]:
        """Yield the view of a description."""
        lines = [line.strip() for line in (prompts or "").splitlines() if line.strip()]
        if len(lines) > MAX_PROMPTS:
            raise page_error(f"Enter at most {MAX_PROMPTS} prompts, not {len(lines):,}.")
        item: ItemPayload = {"detail": detail or Detail.MEDIUM.value}
        if lines:
            item["prompts"] = lines
        task = Task.DESCRIBE
        async for view in self._run(request, task, upload, url, item, options, DESCRIPTION):
            yield view

    async def ask(
        self, request: gr.Request, upload: Any, url: str, question: str, *options: Any
    ) -> AsyncIterator[str]:
        """Yield the view of an answer."""
        item: ItemPayload = {"question": parse_question(question)}
        async for view in self._run(request, Task.VQA, upload, url, item, options):
            yield view

    async def chat(
        self,
        request: gr.Request,
        upload: Any,
        url: str,
        question: str,
        dialogue: Dialogue,
        *options: Any,
    ) -> AsyncIterator[tuple[Any, Any, Any]]:
        """Yield the view of the dialogue, the dialogue, and the input's text."""
        image = images.image_key(upload, url)
        # Another image begins another dialogue.
        turns = dialogue[1] if dialogue[0] == image else []
        history: list[TurnPayload] = [
            {"question": earlier, "answer": reply} for earlier, reply in turns
        ]
        question = parse_question(question)

        def answered(result: Result, seconds: float) -> tuple[Any, Any, Any]:
            extended = [*turns, (question, result.text or "")]
            return views.dialogue(extended, seconds), (image, extended), gr.skip()

        def growing(text: str) -> tuple[Any, Any, Any]:
            return views.dialogue(turns, pending=question, reply=text), gr.skip(), gr.skip()

        outputs = AnswerViews(
            answered,
            growing,
            waiting=(views.dialogue(turns, pending=question), gr.skip(), ""),
            failed=(views.dialogue(turns), gr.skip(), question),
            cancelled=(views.dialogue(turns), gr.skip(), gr.skip()),
            fallback=views.dialogue([]),
        )
        item: ItemPayload = {"question": question, "history": history}
        async for view in self._run(request, Task.CHAT, upload, url, item, options, outputs):
            yield view

    async def clear(self, request: gr.Request) -> tuple[str, Dialogue]:
        """Return an empty dialogue; cancel the pending answer."""
        self._pending.replace(request.session_hash or "", Task.CHAT)
        return views.dialogue([]), NO_DIALOGUE

    async def choose_image(self, request: gr.Request, upload: Any, url: str) -> None:
        """Cancel the pending answers about other images."""
        self._pending.choose_image(request.session_hash or "", images.image_key(upload, url))

    async def match(
        self, request: gr.Request, upload: Any, url: str, texts: str
    ) -> AsyncIterator[str]:
        """Yield the view of a match."""
        lines = [line.strip() for line in (texts or "").splitlines() if line.strip()]
        if not lines:
            raise page_error("Enter the texts to compare with the image, one per line.")
        if len(lines) > MAX_TEXTS:
            raise page_error(f"Enter at most {MAX_TEXTS} texts, not {len(lines):,}.")
        item: ItemPayload = {"texts": lines}
        async for view in self._run(request, Task.MATCH, upload, url, item, outputs=MATCHES):
            yield view

    async def _run(
        self,
        request: gr.Request,
        task: Task,
        upload: Any,
        url: str,
        item: ItemPayload,
        options: Sequence[Any] = (),
        outputs: AnswerViews = TEXT,
    ) -> AsyncIterator[Any]:
        """Submit a job and yield the outputs of each state until it has ended."""
        started = time.monotonic()
        image = images.image_key(upload, url)
        pending = self._pending.add(request.session_hash or "", task, image)
        yield outputs.for_image(image, outputs.waiting)
        try:
            with errors_on_page():
                generation: dict[str, Any] = parse_options(options) if options else {}
                fields: Any = {**item, **pop_adapter(generation)}
                if outputs.growing is not None:
                    generation["stream"] = True
                name, source = request.username or "", (upload, url)
                job = await self._jobs.submit(
                    name, task, source, fields, generation, pending.cancelled
                )
                if outputs.growing is not None:
                    async for text in job.texts():
                        yield outputs.for_image(image, outputs.growing(text))
                result = await job.result(0.0 if outputs.growing else None)
        except gr.Error:
            if not pending.cancelled.is_set():
                yield outputs.for_image(image, outputs.failed)
                raise
            result = None
        if result is not None:
            answered = outputs.answered(result, time.monotonic() - started)
            yield outputs.for_image(image, answered)
        elif not pending.replaced:
            yield outputs.for_image(image, outputs.cancelled)
        # Gradio repeats the last outputs of an event, and the page may already show newer ones.
        yield _no_change(outputs.cancelled)


def parse_question(field: str) -> str:
    """Return the question without surrounding spaces; raises gr.Error if it is empty."""
    if not field or not field.strip():
        raise page_error("Enter a question first.")
    return field.strip()


def _no_change(outputs: Any) -> Any:
    return tuple(map(_no_change, outputs)) if isinstance(outputs, tuple) else gr.skip()
