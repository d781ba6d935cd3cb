"""Limits of a name on the page: its rate, and its requests in progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.page.visitor import IMAGES, Served, serving_idle

RATE = 12


@pytest.fixture(scope="module")
def limited(page_environment: None) -> Iterator[Served]:
    """Return a system without a worker, with a low rate and few concurrent requests."""
    with serving_idle(gateway_rate=RATE, gateway_max_concurrent=2) as served:
        yield served


def test_the_page_and_the_api_share_the_rate_of_a_key(limited: Served) -> None:
    bearer = {"Authorization": f"Bearer {limited.keys['acme']}"}
    with httpx.Client(base_url=f"{limited.url}/", timeout=30) as client:
        statuses = [client.post("login", data={"key": limited.keys["acme"]}).status_code]
        image = (IMAGES / "scene-02.jpg").read_bytes()
        while len(statuses) < RATE - 1:
            path, files = "gradio_api/upload", {"files": ("a.jpg", image)}
            statuses.append(client.post(path, files=files).status_code)
        assert set(statuses) == {303, 200}
        assert httpx.get(f"{limited.address}/v1/queues", headers=bearer).status_code == 200
        for path in ("gradio_api/upload", "gradio_api/queue/join"):
            answer = client.post(path, json={})
            assert (answer.status_code, answer.json()["detail"][:20]) == (
                429,
                "This API key may mak",
            )
        assert httpx.get(f"{limited.address}/v1/queues", headers=bearer).status_code == 429
        answer = client.post("login", data={"key": limited.keys["acme"]})
        assert answer.status_code == 429
        assert "requests per minute" in answer.text
        # What is on the screen stays usable, also the header's refreshes, and nobody is signed out.
        assert client.post("gradio_api/run/x", json={}).status_code != 429
        assert client.get("gradio_api/info").status_code == 200


def test_the_streams_of_a_name_are_limited(limited: Served) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=f"{limited.url}/", timeout=30))
        client.post("login", data={"key": limited.keys["globex"]})
        for number in range(2):
            stream = client.stream("GET", f"gradio_api/heartbeat/page-{number}")
            assert stack.enter_context(stream).status_code == 200
        answer = client.get("gradio_api/info")
        assert (answer.status_code, answer.json()["detail"][:6]) == (429, "globex")
        assert httpx.get(f"{limited.url}/login").status_code == 200


@pytest.mark.parametrize("path", ["theme.css/", "gradio_api/app_id/", "assets/x/", "static/x/"])
def test_no_redirect_of_the_page_trusts_the_host(limited: Served, path: str) -> None:
    answer = httpx.get(f"{limited.url}/{path}", headers={"Host": "evil.example"})
    assert "evil.example" not in answer.headers.get("location", "")
