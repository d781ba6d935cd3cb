"""Routes of batches: the requests of a file, as a batch of the gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from ..contract import RESULT_TTL_S
from ..gateway.access.auth import TenantDependency
from ..gateway.access.tenants import Tenant
from ..gateway.batches.batch_upload import submit_upload
from ..gateway.http.problems import Problem
from ..gateway.jobs.json_body import read_object
from ..gateway.schemas.queries import BatchQuery
from ..gateway.schemas.request_fields import MAX_NAME_CHARS, MAX_PAIRS, MAX_VALUE_CHARS
from ..gateway.state import Gateway, GatewayDependency
from ..ledger.ids import new_id
from ..ledger.keys import Keys
from .errors import OpenAIError
from .files import FileStore, StoredFile, page_of
from .parameters import check_names, invalid_type, required, unsupported
from .request_lines import ENDPOINT, RequestLines
from .result_files import FORM_FIELD, NOTE_FIELD, FileBatch

router = APIRouter()

#: The only window, and its seconds.
WINDOW: Final = "24h"
WINDOW_S: Final = 24 * 3600
#: Maximum batches in a list, and the seconds for which an index of them is stored.
MAX_LISTED: Final = 1_000
_INDEX_TTL_S: Final = 8 * 24 * 3600
_KNOWN: Final = frozenset({"completion_window", "endpoint", "input_file_id", "metadata"})
_PREFIX: Final = "batch_"


@router.post("/openai/v1/batches", include_in_schema=False)
async def create_batch(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Submit all requests of a file; the response follows when the queue has accepted them."""
    async with read_object(request) as parameters:
        check_names(parameters, _KNOWN)
        if required(parameters, "endpoint") != ENDPOINT:
            raise unsupported("endpoint", f"The only supported endpoint is '{ENDPOINT}'")
        if required(parameters, "completion_window") != WINDOW:
            raise unsupported("completion_window", f"'completion_window' must be '{WINDOW}'")
        fields = {
            "input_file_id": required(parameters, "input_file_id"),
            "metadata": _metadata(parameters),
        }
    store = FileStore(gateway, tenant)
    file = await store.get(str(fields["input_file_id"]))
    public_id = new_id()
    # The file counts as a buffered body while its requests are read.
    async with gateway.body_reader.read(tenant.name, _pieces(store, file)) as data:
        await _submit(gateway, tenant, public_id, data, fields)
    await gateway.redis_calls.run(_add_to_index, gateway, tenant, public_id)
    return _json(_body(await _find(gateway, tenant, _PREFIX + public_id)))


@router.get("/openai/v1/batches", include_in_schema=False)
async def list_batches(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """List the batches, the newest first."""
    key = Keys(gateway.settings.key_prefix).file_batches(tenant.name)
    zrevrange: Any = gateway.connection.zrevrange
    names = await gateway.redis_calls.run(zrevrange, key, 0, MAX_LISTED - 1)
    ids = [{"id": _PREFIX + name.decode()} for name in names]
    page = page_of(ids, request)
    batches = await asyncio.gather(
        *(
            FileBatch.find(gateway, tenant, item["id"].removeprefix(_PREFIX))
            for item in page["data"]
        )
    )
    # A batch whose record has expired is omitted.
    return _json(page | {"data": [_body(batch) for batch in batches if batch is not None]})


@router.get("/openai/v1/batches/{id}", include_in_schema=False)
async def get_batch(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Return a batch."""
    return _json(_body(await _find(gateway, tenant, request.path_params["id"])))


@router.post("/openai/v1/batches/{id}/cancel", include_in_schema=False)
async def cancel_batch(
    request: Request, tenant: TenantDependency, gateway: GatewayDependency
) -> Response:
    """Cancel the requests of a batch that have not ended."""
    batch = await _find(gateway, tenant, request.path_params["id"])
    if not batch.has_ended:
        await batch.handle.cancel()
        batch = await _find(gateway, tenant, request.path_params["id"])
    return _json(_body(batch))


async def _submit(
    gateway: Gateway, tenant: Tenant, public_id: str, data: bytes, fields: dict[str, Any]
) -> None:
    """Submit the requests of a file; an interrupted batch is deleted. Raises Problem."""
    max_image_bytes = gateway.settings.max_image_bytes
    lines = await asyncio.to_thread(
        RequestLines, data, max_image_bytes, gateway.image_access(tenant)
    )
    options, form = await asyncio.to_thread(lines.options)
    note = {NOTE_FIELD: {**fields, FORM_FIELD: form.to_json()}}
    query = BatchQuery.model_validate(
        {
            **options,
            "id": public_id,
            "keep_s": RESULT_TTL_S,
            "deadline_s": WINDOW_S,
            "unique_custom_ids": True,
        }
    )
    try:
        with gateway.upload_slots.acquire(tenant.name):
            await submit_upload(gateway, tenant, query, lines, note, resumable=False)
    except Problem as problem:
        if problem.code != "queue_full":
            raise
        message = "The queue is full, and no request of the file was kept: try again later"
        raise OpenAIError(message, code="queue_full", status=429, headers=problem.headers) from None


async def _pieces(store: FileStore, file: StoredFile) -> AsyncIterator[bytes]:
    yield await store.read(file)


def _metadata(parameters: Mapping[str, Any]) -> dict[str, str]:
    pairs = parameters.get("metadata", {})
    if not isinstance(pairs, dict):
        raise invalid_type("metadata", "an object", pairs)
    if len(pairs) > MAX_PAIRS or not all(
        len(name) <= MAX_NAME_CHARS and isinstance(text, str) and len(text) <= MAX_VALUE_CHARS
        for name, text in pairs.items()
    ):
        limits = f"{MAX_PAIRS} texts of at most {MAX_VALUE_CHARS} characters"
        raise OpenAIError(f"'metadata' has at most {limits}", param="metadata")
    return pairs


def _add_to_index(gateway: Gateway, tenant: Tenant, public_id: str) -> None:
    key = Keys(gateway.settings.key_prefix).file_batches(tenant.name)
    pipe = gateway.connection.pipeline(transaction=False)
    pipe.zadd(key, {public_id: time.time()})
    pipe.zremrangebyrank(key, 0, -MAX_LISTED - 1)
    pipe.expire(key, _INDEX_TTL_S)
    pipe.execute()


async def _find(gateway: Gateway, tenant: Tenant, batch_id: str) -> FileBatch:
    """Return a batch; raises OpenAIError."""
    if batch_id.startswith(_PREFIX):
        batch = await FileBatch.find(gateway, tenant, batch_id.removeprefix(_PREFIX))
        if batch is not None:
            return batch
    message = f"There is no batch {batch_id!r:.100}, or it has expired"
    raise OpenAIError(message, code="batch_not_found", param="id", status=404)


def _seconds(unix_s: float | None) -> int | None:
    return None if unix_s is None else int(unix_s)


def _body(batch: FileBatch) -> dict[str, Any]:
    progress, created_at = batch.progress, batch.created_at
    status = "in_progress"
    if batch.has_ended:
        status = "cancelled" if progress.cancelled else "completed"
    elif progress.cancelled:
        status = "cancelling"
    ended = batch.has_ended
    return {
        "id": _PREFIX + batch.public_id,
        "object": "batch",
        "endpoint": ENDPOINT,
        "errors": None,
        "input_file_id": batch.request["input_file_id"],
        "completion_window": WINDOW,
        "status": status,
        "output_file_id": batch.file_id(errors=False) if ended else None,
        "error_file_id": batch.file_id(errors=True) if ended else None,
        "created_at": created_at,
        "in_progress_at": created_at,
        "completed_at": _seconds(progress.ended_at) if status == "completed" else None,
        "cancelled_at": _seconds(progress.ended_at) if status == "cancelled" else None,
        "expires_at": created_at + WINDOW_S,
        "request_counts": {
            "total": progress.total,
            "completed": progress.done - progress.failed,
            "failed": progress.failed,
        },
        "metadata": batch.request["metadata"],
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), media_type="application/json")
