"""A shop on Flask whose pictures Blipline describes, over HTTP.

    pip install flask httpx standardwebhooks
    export BLIPLINE_GATEWAY=http://127.0.0.1:8000
    export BLIPLINE_API_KEY=blip_…            # blipline keys create shop
    export BLIPLINE_WEBHOOK_SECRET=whsec_…    # blipline keys webhook-secret shop
    export SITE_URL=http://127.0.0.1:8001     # where the gateway reaches this site
    flask --app flask_backend run --port 8001   # in this folder

    curl localhost:8001/products -F picture=@cat.jpg
    curl localhost:8001/products -F picture_url=https://example.com/cat.jpg
    curl localhost:8001/products/<id>

A gateway sends webhooks to public addresses alone. To try it on one machine, start the gateway
with BLIPLINE_WEBHOOK_ALLOW=127.0.0.1.
"""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

import httpx
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug.exceptions import HTTPException, ServiceUnavailable, UnprocessableEntity

#: Maximum attempts at a request, and maximum seconds between two: our own user waits meanwhile.
MAX_ATTEMPTS, MAX_DELAY_S = 4, 5.0

Product = dict[str, Any]
#: In place of a database.
PRODUCTS: dict[str, Product] = {}

app = Flask(__name__)
#: Shared by all threads, with a connection pool.
blipline = httpx.Client(
    base_url=os.environ["BLIPLINE_GATEWAY"],
    headers={"Authorization": f"Bearer {os.environ['BLIPLINE_API_KEY']}"},
    timeout=30,
)
webhook = Webhook(os.environ["BLIPLINE_WEBHOOK_SECRET"])


@app.post("/products")
def add() -> ResponseReturnValue:
    if picture := request.files.get("picture"):
        image = call_blipline("POST", "/v1/images", content=picture.read())["image"]
    else:
        image = request.form.get("picture_url", "")
        if not image.startswith(("https://", "http://")):
            abort(422, "a product needs a picture, or a picture_url of the web")
    product: Product = {
        "id": uuid4().hex,
        "status": "waiting",
        "description": None,
        "error": None,
    }
    # Before the submission: the webhook may be faster than the response to it.
    PRODUCTS[product["id"]] = product
    job = {
        "task": "caption",
        "image": image,
        "webhook": os.environ["SITE_URL"] + "/webhooks/blipline",
    }
    try:
        update(call_blipline("PUT", f"/v1/jobs/{product['id']}", json=job))
    except HTTPException:
        del PRODUCTS[product["id"]]
        raise
    return product, 201


@app.get("/products")
def show_all() -> ResponseReturnValue:
    return list(PRODUCTS.values())


@app.get("/products/<product_id>")
def show(product_id: str) -> ResponseReturnValue:
    if (product := PRODUCTS.get(product_id)) is None:
        abort(404, "no such product")
    if product["status"] == "waiting":
        # In addition to the webhook, which may be late or lost.
        update(call_blipline("GET", f"/v1/jobs/{product_id}"))
    return product


@app.post("/webhooks/blipline")
def receive_webhook() -> ResponseReturnValue:
    try:
        event = webhook.verify(request.get_data(), dict(request.headers))
    except (WebhookVerificationError, ValueError):  # ValueError: a malformed signature
        abort(401, "the signature is not Blipline's")
    if event["type"] == "job.completed":  # not a ping
        update(event["data"])
    return "", 204


@app.errorhandler(HTTPException)
def problem(error: HTTPException) -> ResponseReturnValue:
    response = error.get_response()
    response.data = app.json.dumps({"detail": error.description})
    response.content_type = "application/json"
    return response


def update(job: dict[str, Any]) -> None:
    """Store the result of a job. Idempotent: the same webhook may come again."""
    if job["status"] not in ("queued", "running") and (product := PRODUCTS.get(job["id"])):
        product["status"] = job["status"]
        product["description"] = (job["output"] or {}).get("text")
        product["error"] = (job["error"] or {}).get("message")


def call_blipline(method: str, path: str, **arguments: Any) -> Any:
    """Send a request to Blipline; retry it while Blipline is busy or unreachable.

    A PUT under an id of our own can be repeated: it creates one job.
    """
    delay_s = 1.0
    for _ in range(MAX_ATTEMPTS):
        try:
            answer = blipline.request(method, path, **arguments)
        except httpx.TransportError:
            delay_s = 1.0
        else:
            if answer.status_code in (413, 422):  # our user's input is invalid
                raise UnprocessableEntity(answer.json()["detail"])
            if answer.status_code not in (429, 502, 503, 504):
                return answer.raise_for_status().json()
            delay_s = float(answer.headers.get("Retry-After", 1))
        if delay_s > MAX_DELAY_S:
            break
        time.sleep(delay_s)
    raise ServiceUnavailable("come back later", retry_after=round(delay_s))
