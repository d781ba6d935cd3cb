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

#: How often Blipline is asked, and for how many seconds is waited in between at most: our own
#: user waits as well.
TRIES, LONGEST_PAUSE_S = 4, 5.0

Product = dict[str, Any]
#: In place of a database.
PRODUCTS: dict[str, Product] = {}


class State(TypedDict):
    """What every request finds in `request.state`."""

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
        uploaded = await ask(blipline, "POST", "/v1/images", content=await picture.read())
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
    # Before it is submitted: the webhook may be faster than the answer to the submission.
    PRODUCTS[product["id"]] = product
    webhook = os.environ["SITE_URL"] + "/webhooks/blipline"
    job = {"task": "caption", "image": image, "webhook": webhook}
    try:
        update(await ask(blipline, "PUT", f"/v1/jobs/{product['id']}", json=job))
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
        # Asking as well as being told: a webhook may be late, or be lost for good.
        update(await ask(request.state.blipline, "GET", f"/v1/jobs/{product_id}"))
    return product


@app.post("/webhooks/blipline", status_code=204)
async def told(request: Request) -> None:
    try:
        event = request.state.webhook.verify(await request.body(), dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: not even of a signature's form
        raise HTTPException(401, "that is not Blipline's signature") from None
    update(event["data"])


def update(job: dict[str, Any]) -> None:
    """Take over how a job ended. Told twice is no harm: the same webhook may come again."""
    if job["status"] not in ("queued", "running") and (product := PRODUCTS.get(job["id"])):
        product["status"] = job["status"]
        product["description"] = (job["output"] or {}).get("text")
        product["error"] = (job["error"] or {}).get("message")


async def ask(blipline: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
    """Ask Blipline, a few times if it is busy or away.

    A PUT under an id of our own may be repeated: it is one job, however often it arrives.
    """
    pause_s = 1.0
    for _ in range(TRIES):
        try:
            answer = await blipline.request(method, path, **request)
        except httpx.TransportError:
            pause_s = 1.0
        else:
            if answer.status_code in (413, 422):  # what our user gave is wrong
                raise HTTPException(422, answer.json()["detail"])
            if answer.status_code not in (429, 502, 503, 504):
                return answer.raise_for_status().json()
            pause_s = float(answer.headers.get("Retry-After", 1))
        if pause_s > LONGEST_PAUSE_S:
            break
        await asyncio.sleep(pause_s)
    raise HTTPException(503, "come back later", {"Retry-After": f"{pause_s:.0f}"})
