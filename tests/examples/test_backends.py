"""The examples of web backends: each as a real site with the real stack."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from demo.stack import free_port
from tests.examples.conftest import CAPTIONS, IMAGES, Stack, running_site

COMMANDS = {
    "fastapi": ["uvicorn", "fastapi_backend:app", "--port", "{port}", "--log-level", "warning"],
    "flask": ["flask", "--app", "flask_backend", "run", "--port", "{port}"],
    "django": ["django_backend", "runserver", "--noreload", "{port}"],
}
PICTURE, OTHER = "scene-01.png", "scene-02.jpg"

Site = httpx.Client


@pytest.fixture(scope="module", params=COMMANDS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(framework: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cwd = tmp_path_factory.mktemp(framework)
    with (
        running_site(COMMANDS[framework], stack.environment(), cwd) as address,
        httpx.Client(base_url=address, timeout=60) as site,
    ):
        yield site


@pytest.fixture
def deaf_site(framework: str, stack: Stack, tmp_path: Path) -> Iterator[Site]:
    """A site without webhooks: its SITE_URL is wrong."""
    environment = {**stack.environment(), "SITE_URL": f"http://127.0.0.1:{free_port()}"}
    with (
        running_site(COMMANDS[framework], environment, tmp_path) as address,
        httpx.Client(base_url=address, timeout=60) as site,
    ):
        yield site


def until_described(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while (product := look())["status"] == "waiting" and time.monotonic() < deadline:
        time.sleep(0.05)
    return product


def ids(site: Site) -> set[str]:
    return {product["id"] for product in site.get("/products").json()}


def as_stored(site: Site, product_id: str) -> Any:
    """Return the product of a site without a request to Blipline."""
    (product,) = [
        product for product in site.get("/products").json() if product["id"] == product_id
    ]
    return product


def test_an_uploaded_picture_is_described_by_a_webhook(site: Site) -> None:
    added = site.post("/products", files={"picture": (IMAGES / PICTURE).read_bytes()})
    assert added.status_code == 201, added.text
    product = until_described(lambda: as_stored(site, added.json()["id"]))
    assert (product["status"], product["description"]) == ("done", CAPTIONS[PICTURE])


def test_a_site_without_webhooks_polls(deaf_site: Site, pictures: str) -> None:
    added = deaf_site.post("/products", data={"picture_url": f"{pictures}/{OTHER}"})
    address = f"/products/{added.json()['id']}"
    product = until_described(lambda: deaf_site.get(address).json())
    assert (product["status"], product["description"]) == ("done", CAPTIONS[OTHER])


def test_an_unreachable_picture_is_a_product_without_a_description(
    site: Site, pictures: str
) -> None:
    added = site.post("/products", data={"picture_url": f"{pictures}/none.png"})
    product = until_described(lambda: as_stored(site, added.json()["id"]))
    assert (product["status"], product["description"]) == ("failed", None)
    assert "404" in product["error"]


def test_a_request_is_repeated_after_retry_after(site: Site, stack: Stack) -> None:
    stack.front.seen.clear()
    stack.front.reject("POST", 1, retry_after_s=1)
    stack.front.reject("PUT", 1, retry_after_s=0)
    added = site.post("/products", files={"picture": (IMAGES / PICTURE).read_bytes()})
    assert added.status_code == 201, added.text
    job = f"/v1/jobs/{added.json()['id']}"
    assert stack.front.seen[:4] == [("POST", "/v1/images")] * 2 + [("PUT", job)] * 2


def test_a_site_does_not_wait_for_a_gateway_that_is_busy_for_long(site: Site, stack: Stack) -> None:
    before = ids(site)
    stack.front.reject("PUT", 1, retry_after_s=60)
    added = site.post("/products", data={"picture_url": "https://images.example.com/cat.jpg"})
    assert (added.status_code, added.headers["Retry-After"]) == (503, "60")
    assert ids(site) == before


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"picture_url": "file:secret.png"},
        # Of the web, but Blipline does not take it.
        {"picture_url": "https://images.example.com/" + "x" * 9000},
    ],
    ids=["nothing", "file", "refused"],
)
def test_what_is_no_picture_is_refused_in_words(site: Site, form: dict[str, str]) -> None:
    before = ids(site)
    added = site.post("/products", data={"name": "a cat", **form})
    assert added.status_code == 422
    assert isinstance(added.json()["detail"], str)
    assert ids(site) == before


def headers(secret: str, body: str, at: datetime) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body),
    }


def test_only_the_gateways_signature_counts(site: Site, stack: Stack) -> None:
    added = site.post("/products", files={"picture": (IMAGES / PICTURE).read_bytes()})
    product = until_described(lambda: as_stored(site, added.json()["id"]))
    forged = {"id": product["id"], "status": "done", "output": {"text": "a forgery"}, "error": None}
    body = json.dumps({"type": "job.completed", "data": forged})
    now, stranger = datetime.now(UTC), f"whsec_{base64.b64encode(b'x' * 32).decode()}"
    good = headers(stack.webhook_secret, body, now)
    for wrong in (
        {},
        headers(stranger, body, now),
        headers(stack.webhook_secret, body, now - timedelta(hours=1)),
        headers(stack.webhook_secret, body + " ", now),
        good | {"webhook-id": "msg_2"},
        good | {"webhook-signature": "v1"},
        good | {"webhook-signature": "v1,no base64"},
    ):
        assert site.post("/webhooks/blipline", content=body, headers=wrong).status_code == 401
    assert site.post("/webhooks/blipline", content=b"\xff", headers=good).status_code == 401
    assert as_stored(site, product["id"]) == product
    ping = json.dumps({"type": "webhook.ping", "data": {"message": "a test"}})
    signed = headers(stack.webhook_secret, ping, now)
    assert site.post("/webhooks/blipline", content=ping, headers=signed).status_code == 204
    assert as_stored(site, product["id"]) == product
    # The same with its right signature: so the above was refused for the signature alone.
    assert site.post("/webhooks/blipline", content=body, headers=good).status_code == 204
    assert as_stored(site, product["id"])["description"] == "a forgery"
