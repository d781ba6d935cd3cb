"""Handlers of the batch tab, and the download of its results."""

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

from ..aio.client import AsyncClient
from ..aio.handles import AsyncBatch
from ..contract import Task
from ..errors import BliplineError, WaitTimeout
from ..gateway.access.tenants import PUBLIC_ID, Tenant, public_id_of
from ..gateway.schemas.metadata import RequestMetadata
from ..gateway.state import Gateway
from ..job import Result
from ..ledger.ids import created_at, new_id
from ..results.progress import Progress
from . import export, images, views
from .access import AccessGate
from .ask import parse_question
from .messages import errors_on_page, page_error
from .options import DEADLINE, parse_options, pop_adapter

#: Maximum images of a batch; the gateway and the command line have no such limit.
MAX_IMAGES: Final = 500
#: Seconds between two polls of a batch.
POLL_S: Final = 0.25
#: Seconds without a further result after which the page stops polling.
STALL_S: Final = 60.0

_FILE: Final = re.compile(rf"({PUBLIC_ID})\.(jsonl|csv)")
_MEDIA: Final = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}

#: Progress, table, links, the batch's public id, and the states of the buttons Run and Cancel.
BatchOutputs = tuple[Any, Any, Any, Any, Any, Any]


class BatchHandlers:
    """Event handlers of the batch tab."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def run(
        self, request: gr.Request, uploads: Any, task: str, question: str, *options: Any
    ) -> AsyncIterator[BatchOutputs]:
        """Submit a batch and yield its progress until it has ended; raises gr.Error."""
        started, name = time.monotonic(), request.username or ""
        uploads = _check_uploads(uploads)
        fields = _item_fields(task, question)
        yield (views.submitting(len(uploads)), "", "", None, *_buttons(running=False, busy=True))
        try:
            with errors_on_page():
                batch = await self._submit(name, uploads, Task.parse(task), fields, options)
                async for outputs in _follow(batch, uploads, started):
                    yield outputs
        except gr.Error:
            yield ("", gr.skip(), gr.skip(), gr.skip(), *_buttons(running=False))
            raise

    async def resume(
        self, request: gr.Request, uploads: Any, public_id: str | None
    ) -> AsyncIterator[BatchOutputs]:
        """Yield the progress of a batch that a reloaded page had submitted; None: no batch."""
        if public_id is None:
            # A generator without outputs would clear the components.
            yield (gr.skip(),) * 6
            return
        age_s = time.time() - (created_at(public_id) or time.time())
        batch = self._gateway.client.batch(Tenant(request.username or "").batch_id(public_id))
        try:
            with errors_on_page():
                async for outputs in _follow(batch, uploads or [], time.monotonic() - age_s):
                    yield outputs
        except gr.Error:
            # The batch has expired. The visitor has not asked for it, so there is no message.
            yield ("", "", "", None, *_buttons(running=False))

    async def cancel(self, request: gr.Request, public_id: str | None) -> None:
        """Cancel the items of a batch that have not started."""
        if public_id:
            with errors_on_page():
                tenant = Tenant(request.username or "")
                await self._gateway.client.batch(tenant.batch_id(public_id)).cancel()

    async def _submit(
        self,
        name: str,
        uploads: Sequence[Any],
        task: Task,
        fields: dict[str, str],
        options: Sequence[Any],
    ) -> AsyncBatch:
        generation = parse_options(options)
        deadline_s = generation.pop(DEADLINE, None)
        fields = {**fields, **pop_adapter(generation)}
        return await self._gateway.client.submit_batch(
            _items(uploads, fields),
            task,
            batch_id=Tenant(name).batch_id(new_id()),
            submitter=name,
            note=RequestMetadata.now(task).encode(),
            # Small chunks show progress early, and spread over several workers.
            chunk_items=8,
            deadline_s=deadline_s,
            when_full="raise",
            **generation,
        )


def download(client: AsyncClient) -> Callable[[Request], Awaitable[Response]]:
    """Return the route that downloads the current results of a batch as a file."""

    async def answer(request: Request) -> Response:
        match = _FILE.fullmatch(request.path_params["file"])
        if match is None:
            return PlainTextResponse("not found", 404)
        public_id, kind = match.groups()
        batch = client.batch(Tenant(request.scope[AccessGate.NAME]).batch_id(public_id))
        try:
            await batch.progress()
        except BliplineError:
            return PlainTextResponse("unknown or expired batch", 404)
        write = export.jsonl if kind == "jsonl" else export.table
        return StreamingResponse(
            write(_current_results(batch)),
            media_type=_MEDIA[kind],
            headers={"content-disposition": f'attachment; filename="{public_id}.{kind}"'},
        )

    return answer


def _check_uploads(uploads: Any) -> list[Any]:
    uploads = uploads or []
    if not uploads:
        raise page_error("Choose one or more images first.")
    if len(uploads) > MAX_IMAGES:
        raise page_error(f"Choose at most {MAX_IMAGES} images, not {len(uploads):,}.")
    return list(uploads)


def _item_fields(task: str, question: str) -> dict[str, str]:
    if task == Task.VQA.short:
        return {"question": parse_question(question)}
    return {"prompt": question} if question and question.strip() else {}


def _items(uploads: Sequence[Any], fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the items, reading one image at a time; the client iterates in a thread."""
    for upload in uploads:
        item = {"custom_id": images.name_of(upload), **fields}
        try:
            yield {"image": images.read_upload(images.path_of(upload)), **item}
        except BliplineError as error:
            yield {"error": {"code": error.code, "message": str(error)}, **item}


async def _follow(
    batch: AsyncBatch, uploads: list[Any], started: float
) -> AsyncIterator[BatchOutputs]:
    """Yield the progress of a batch until it has ended or stalled, then its results."""
    public_id = public_id_of(batch.id)
    links = views.downloads(public_id)
    table = progress = ""
    try:
        async for counts in _poll(batch):
            progress = views.progress(counts, time.monotonic() - started)
            if not (counts.finished or counts.cancelled):
                yield (progress, "", links, public_id, *_buttons(running=True))
        results = [result async for result in batch.results(STALL_S)]
        # A cancelled batch was still ending its items when it was polled.
        progress = views.progress(await batch.progress(), time.monotonic() - started)
        paths = [upload["path"] for upload in uploads]
        if len(paths) != len(results):
            # Gradio has deleted uploads since.
            paths = [""] * len(results)
        table = views.results(zip(paths, results, strict=True))
    except WaitTimeout as error:
        # This is not an error: the links return the current results, and later the other results.
        gr.Warning(escape(str(error)))
    yield (progress, table, links, public_id, *_buttons(running=False))


async def _poll(batch: AsyncBatch) -> AsyncIterator[Progress]:
    """Yield the counts of a batch until it has ended; raises WaitTimeout if it stalls."""
    done, changed_at = -1, time.monotonic()
    while True:
        counts = await batch.progress()
        yield counts
        if counts.finished or counts.cancelled:
            return
        if counts.done != done:
            done, changed_at = counts.done, time.monotonic()
        elif time.monotonic() - changed_at > STALL_S:
            progress = "finished a further item" if done else "started this batch"
            raise WaitTimeout(
                f"No worker has {progress} within {STALL_S:g} s. The batch stays in the queue; "
                f"its id is {public_id_of(batch.id)}."
            )
        await asyncio.sleep(POLL_S)


async def _current_results(batch: AsyncBatch) -> AsyncIterator[Result]:
    try:
        async for result in batch.results(0):
            yield result
    except WaitTimeout:
        return


def _buttons(*, running: bool, busy: bool = False) -> tuple[Any, Any]:
    """Return the states of Run and Cancel; `busy` while a batch is being submitted."""
    return gr.update(interactive=not (running or busy)), gr.update(visible=running)
