"""A shop on FastAPI whose pictures Blipline describes, over HTTP.

    pip install fastapi httpx python-multipart standardwebhooks uvicorn
    export BLIPLINE_GATEWAY=http://127.0.0.1:8000
    export BLIPLINE_API_KEY=blip_…            # blipline keys create shop
    export BLIPLINE_WEBHOOK_SECRET=whsec_…    # blipline keys webhook-secret shop
    export SITE_URL=http://127.0.0.1:8001     # where the gateway reaches this site
    uvicorn fastapi_backend:app --port 8001   # in this folder

    curl localhost:8001/products -F picture=@cat.jpg
    curl localhost:8001/products -F picture_url=https://example.com/cat.jpg
    curl localhost:8001/products/<id>

A gateway sends webhooks to public addresses alone. To try it on one machine, start the gateway
with BLIPLINE_WEBHOOK_ALLOW=127.0.0.1.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import httpx
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from standardwebhooks import Webhook, WebhookVerificationError

#: Maximum attempts at a request, and maximum seconds between two: our own user waits meanwhile.
MAX_ATTEMPTS, MAX_DELAY_S = 4, 5.0

Product = dict[str, Any]
#: In place of a database.
PRODUCTS: dict[str, Product] = {}


class State(TypedDict):
    """The attributes of `request.state`."""

    blipline: httpx.AsyncClient
    webhook: Webhook


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    headers = {"Authorization": f"Bearer {os.environ['BLIPLINE_API_KEY']}"}
    gateway = os.environ["BLIPLINE_GATEWAY"]
    async with httpx.AsyncClient(base_url=gateway, headers=headers, timeout=30) as blipline:
        yield {"blipline": blipline, "webhook": Webhook(os.environ["BLIPLINE_WEBHOOK_SECRET"])}


app = FastAPI(lifespan=lifespan)


@app.post("/products", status_code=201)
async def add(
    request: Request, picture: UploadFile | None = None, picture_url: Annotated[str, Form()] = ""
) -> Product:
    blipline = request.state.blipline
    if picture is not None:
        uploaded = await call_blipline(blipline, "POST", "/v1/images", content=await picture.read())
        image = uploaded["image"]
    elif picture_url.startswith(("https://", "http://")):
        image = picture_url
    else:
        raise HTTPException(422, "a product needs a picture, or a picture_url of the web")
    product: Product = {
        "id": uuid4().hex,
        "status": "waiting",
        "description": None,
        "error": None,
    }
    # Before the submission: the webhook may be faster than the response to it.
    PRODUCTS[product["id"]] = product
    webhook = os.environ["SITE_URL"] + "/webhooks/blipline"
    job = {"task": "caption", "image": image, "webhook": webhook}
    try:
        update(await call_blipline(blipline, "PUT", f"/v1/jobs/{product['id']}", json=job))
    except HTTPException:
        del PRODUCTS[product["id"]]
        raise
    return product


@app.get("/products")
async def show_all() -> list[Product]:
    return list(PRODUCTS.values())


@app.get("/products/{product_id}")
async def show(product_id: str, request: Request) -> Product:
    if (product := PRODUCTS.get(product_id)) is None:
        raise HTTPException(404, "no such product")
    if product["status"] == "waiting":
        # In addition to the webhook, which may be late or lost.
        update(await call_blipline(request.state.blipline, "GET", f"/v1/jobs/{product_id}"))
    return product


@app.post("/webhooks/blipline", status_code=204)
async def receive_webhook(request: Request) -> None:
    try:
        event = request.state.webhook.verify(await request.body(), dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: a malformed signature
        raise HTTPException(401, "the signature is not Blipline's") from None
    if event["type"] == "job.completed":  # not a ping
        update(event["data"])


def update(job: dict[str, Any]) -> None:
    """Store the result of a job. Idempotent: the same webhook may come again."""
    if job["status"] not in ("queued", "running") and (product := PRODUCTS.get(job["id"])):
        product["status"] = job["status"]
        product["description"] = (job["output"] or {}).get("text")
        product["error"] = (job["error"] or {}).get("message")


async def call_blipline(blipline: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
    """Send a request to Blipline; retry it while Blipline is busy or unreachable.

    A PUT under an id of our own can be repeated: it creates one job.
    """
    delay_s = 1.0
    for _ in range(MAX_ATTEMPTS):
        try:
            answer = await blipline.request(method, path, **request)
        except httpx.TransportError:
            delay_s = 1.0
        else:
            if answer.status_code in (413, 422):  # our user's input is invalid
                raise HTTPException(422, answer.json()["detail"])
            if answer.status_code not in (429, 502, 503, 504):
                return answer.raise_for_status().json()
            delay_s = float(answer.headers.get("Retry-After", 1))
        if delay_s > MAX_DELAY_S:
            break
        await asyncio.sleep(delay_s)
    raise HTTPException(503, "come back later", {"Retry-After": f"{delay_s:.0f}"})
