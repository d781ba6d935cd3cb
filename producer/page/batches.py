"""Several pictures at once: the batch tab, and its results as files."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from html import escape
from typing import Any, Final

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from ..aio.client import AsyncBatch, AsyncClient
from ..contract import Task
from ..errors import BliplineError, WaitTimeout
from ..gateway.metadata import RequestMetadata
from ..gateway.state import Gateway
from ..gateway.tenants import PUBLIC_ID, Tenant, public_id_of
from ..job import Result
from ..ledger.ids import new_id
from ..progress import Progress
from . import export, images, views
from .access import AccessGate
from .ask import question_in
from .messages import problem, shown_as_error
from .options import DEADLINE, chosen

#: Pictures of one batch of the page; the gateway and the shell take any number.
MAX_PICTURES: Final = 500
#: Seconds between two looks at a batch.
PAUSE_S: Final = 0.25
#: Seconds without any further result after which the page no longer watches.
SILENT_S: Final = 60.0

_FILE: Final = re.compile(rf"({PUBLIC_ID})\.(jsonl|csv)")
_MEDIA: Final = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}

#: Progress, table, links, the batch's id for `cancel`, and whether it runs.
Shown = tuple[Any, Any, Any, Any, Any, Any]


class Batches:
    """What the buttons of the batch tab do."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def run(
        self, request: gr.Request, uploads: Any, task: str, question: str, *options: Any
    ) -> AsyncIterator[Shown]:
        """Submit, then show how far it is until it has ended; raises gr.Error."""
        began, name = time.monotonic(), request.username or ""
        uploads = _needed(uploads)
        fields = _fields(task, question)
        yield (views.submitting(len(uploads)), "", "", None, *_buttons(running=False, busy=True))
        try:
            with shown_as_error():
                batch = await self._submit(name, uploads, Task.parse(task), fields, options)
                async for shown in _followed(batch, uploads, began):
                    yield shown
        except gr.Error:
            yield ("", gr.skip(), gr.skip(), gr.skip(), *_buttons(running=False))
            raise

    async def cancel(self, request: gr.Request, outer: str | None) -> None:
        """Say that the rest is no longer wanted."""
        if outer:
            with shown_as_error():
                await self._batch(request.username or "", outer).cancel()

    async def _submit(
        self,
        name: str,
        uploads: Sequence[Any],
        task: Task,
        fields: dict[str, str],
        options: Sequence[Any],
    ) -> AsyncBatch:
        wanted = chosen(options)
        deadline_s = wanted.pop(DEADLINE, None)
        return await self._gateway.client.submit_batch(
            _items(uploads, fields),
            task,
            batch_id=Tenant(name).batch_id(new_id()),
            submitter=name,
            note=RequestMetadata.now(task).encode(),
            # Few enough for progress to be seen, and for workers to share.
            chunk_items=8,
            deadline_s=deadline_s,
            when_full="raise",
            **wanted,
        )

    def _batch(self, name: str, outer: str) -> AsyncBatch:
        return self._gateway.client.batch(Tenant(name).batch_id(outer))


def download(client: AsyncClient) -> Callable[[Request], Awaitable[Response]]:
    """The route of a batch's results as a file: what there is of them now."""

    async def answer(request: Request) -> Response:
        found = _FILE.fullmatch(request.path_params["file"])
        if found is None:
            return PlainTextResponse("no such file", 404)
        outer, kind = found.groups()
        batch = client.batch(Tenant(request.scope[AccessGate.NAME]).batch_id(outer))
        try:
            await batch.progress()
        except BliplineError:
            return PlainTextResponse("there is no such batch, or no longer", 404)
        write = export.jsonl if kind == "jsonl" else export.table
        return StreamingResponse(
            write(_now(batch)),
            media_type=_MEDIA[kind],
            headers={"content-disposition": f'attachment; filename="{outer}.{kind}"'},
        )

    return answer


def _needed(uploads: Any) -> list[Any]:
    uploads = uploads or []
    if not uploads:
        raise problem("Choose some pictures first.")
    if len(uploads) > MAX_PICTURES:
        raise problem(f"The page takes {MAX_PICTURES} pictures at once, not {len(uploads):,}.")
    return list(uploads)


def _fields(task: str, question: str) -> dict[str, str]:
    if task == Task.VQA.short:
        return {"question": question_in(question)}
    return {"prompt": question} if question and question.strip() else {}


def _items(uploads: Sequence[Any], fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Items, each picture read when its turn comes; this runs in a thread of the client."""
    for upload in uploads:
        known = {"custom_id": images.name_of(upload), **fields}
        try:
            yield {"image": images.read(images.path_of(upload)), **known}
        except BliplineError as error:
            yield {"error": {"code": error.code, "message": str(error)}, **known}


async def _followed(batch: AsyncBatch, uploads: list[Any], began: float) -> AsyncIterator[Shown]:
    """How far it is, until it is over or nothing happens any more; then what there is of it."""
    outer = public_id_of(batch.id)
    links = views.downloads(outer)
    rows = shown = ""
    try:
        async for counts in _watched(batch):
            shown = views.progress(counts, time.monotonic() - began)
            if not (counts.finished or counts.cancelled):
                yield (shown, "", links, outer, *_buttons(running=True))
        paths = [upload["path"] for upload in uploads]
        rows = views.results(zip(paths, await _results(batch), strict=True))
    except WaitTimeout as error:
        # What there is can be fetched, and more of it later.
        gr.Warning(escape(str(error)))
    yield (shown, rows, links, outer, *_buttons(running=False))


async def _watched(batch: AsyncBatch) -> AsyncIterator[Progress]:
    """Counts, until the batch is over; raises WaitTimeout when nothing happens any more."""
    done, since = -1, time.monotonic()
    while True:
        counts = await batch.progress()
        yield counts
        if counts.finished or counts.cancelled:
            return
        if counts.done != done:
            done, since = counts.done, time.monotonic()
        elif time.monotonic() - since > SILENT_S:
            begun = "finished anything more of it" if done else "begun it"
            raise WaitTimeout(
                f"No worker has {begun} after {SILENT_S:g} s. It stays in the queue, under the id "
                f"{public_id_of(batch.id)}."
            )
        await asyncio.sleep(PAUSE_S)


async def _results(batch: AsyncBatch) -> list[Result]:
    return [result async for result in batch.results(SILENT_S)]


async def _now(batch: AsyncBatch) -> AsyncIterator[Result]:
    """The results that there are."""
    try:
        async for result in batch.results(0):
            yield result
    except WaitTimeout:
        return


def _buttons(*, running: bool, busy: bool = False) -> tuple[Any, Any]:
    """Run, which takes one batch at a time, and Cancel, once there is what can be cancelled."""
    return gr.update(interactive=not (running or busy)), gr.update(visible=running)
