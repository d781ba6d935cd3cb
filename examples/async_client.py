"""A site around AsyncClient, which connects to Redis directly and needs no gateway.

Beside Blipline's client it needs `pip install fastapi uvicorn`. In this folder,

BLIPLINE_REDIS_URL=redis://127.0.0.1:6379/0 uvicorn async_client:app
curl localhost:8000/caption --json '{"image": "https://example.com/cat.jpg"}'
curl 'localhost:8000/jobs/<id>?wait_s=20'
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from blipline import (
    AsyncClient,
    BliplineError,
    ConnectionFailed,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobUnknown,
    QueueFull,
    WaitTimeout,
)
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, HttpUrl


class Caption(BaseModel):
    # A URL: the client reads any other string as a path on this server.
    image: HttpUrl


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, AsyncClient]]:
    async with AsyncClient() as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.post("/caption", status_code=202)
async def caption(body: Caption, request: Request) -> dict[str, str]:
    job = await request.state.client.caption(str(body.image), deadline_s=300)
    return {"id": job.id}


@app.get("/jobs/{job_id}")
async def job(
    job_id: str, request: Request, wait_s: Annotated[float, Query(ge=0, le=30)] = 0
) -> dict[str, Any]:
    handle = request.state.client.job(job_id)
    try:
        return {"status": "done", "text": await handle.result(timeout=wait_s)}
    except WaitTimeout:
        return {"status": await handle.status()}
    except (JobFailed, JobCancelled) as error:
        return {"status": "error", "error": {"code": error.code, "message": str(error)}}


@app.exception_handler(BliplineError)
async def problem(request: Request, error: BliplineError) -> JSONResponse:
    body = {"code": error.code, "message": str(error)}
    if isinstance(error, QueueFull):
        return JSONResponse(body, 429, {"Retry-After": str(math.ceil(error.retry_after_s))})
    statuses = {ConnectionFailed: 503, JobUnknown: 404, JobExpired: 410}
    return JSONResponse(body, statuses.get(type(error), 400))
