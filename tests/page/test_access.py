"""The access gate, tested over HTTP as an attacker would use it."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from producer import Client
from producer.gateway.access.api_keys import ApiKey
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from producer.page.access import MAX_BODY_BYTES, AccessGate
from producer.page.pending import PendingAnswers
from producer.page.sessions import Sessions
from producer.page.upload_quota import UploadQuota
from tests.page.visitor import IMAGES, Served

META = {"_type": "gradio.FileData"}

Enter = Callable[[str], httpx.Client]


@pytest.fixture
def enter(idle: Served) -> Iterator[Enter]:
    """Return a function that signs a tenant in; its client's paths are relative to the page."""
    clients = []

    def sign_in(name: str) -> httpx.Client:
        client = httpx.Client(base_url=f"{idle.url}/", timeout=30)
        clients.append(client)
        answer = client.post("login", data={"key": idle.keys[name]})
        assert answer.status_code == 303
        return client

    yield sign_in
    for client in clients:
        client.close()


def upload(client: httpx.Client, name: str = "scene-02.jpg") -> str:
    """Upload an image under this name and return its path."""
    image = (IMAGES / "scene-02.jpg").read_bytes()
    answer = client.post("gradio_api/upload", files={"files": (name, image)})
    (path,) = answer.json()
    return str(path)


def join(client: httpx.Client, data: Any, page: str, function: Any = 0) -> httpx.Response:
    """Call a function of the page with any data; by default that of a caption."""
    body = {"data": data, "fn_index": function, "session_hash": page}
    return client.post("gradio_api/queue/join", json=body)


def caption_inputs(upload: Any = None, url: Any = "") -> list[Any]:
    """Return the inputs of a caption."""
    return [upload, url, "", 20, 1, 0, 1, 0, 1, None, None, ""]


@pytest.fixture
def canary() -> Iterator[tuple[str, Callable[[], bool]]]:
    """Return a URL that must not be requested, and a function that reports whether it was."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def was_requested() -> bool:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.png", was_requested


def test_without_a_key_every_route_is_closed(idle: Served) -> None:
    with httpx.Client(base_url=f"{idle.url}/") as client:
        home = client.get("")
        assert (home.status_code, home.headers["location"]) == (303, "/ui/login")
        # Open, as a page that lost its connection polls it.
        assert client.get("gradio_api/app_id").status_code == 200
        for path in ("config", "gradio_api/info", "results/x.csv", "gradio_api/heartbeat/x"):
            assert client.get(path).status_code == 401, path
        for path in ("gradio_api/queue/join", "gradio_api/upload", "gradio_api/cancel"):
            response = client.post(path, json={})
            assert response.status_code == 401, path
            # Gradio's scripts recognize this text and reload the page.
            assert response.json()["error"] == "Connection errored out. "
        client.cookies.set("blipline-page", "guessed")
        assert client.get("gradio_api/info").status_code == 401


def test_the_session_cookie_is_restricted_to_the_page(idle: Served) -> None:
    answer = httpx.post(f"{idle.url}/login", data={"key": idle.keys["acme"]})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/ui" in cookie
    assert idle.keys["acme"] not in cookie


@pytest.mark.parametrize(
    "path",
    [
        "config",
        "monitoring",
        "gradio_api/deep_link",
        "gradio_api/openapi.json",
        "gradio_api/vibe-code/",
        "gradio_api/dev/reload",
        "gradio_api/token",
        "gradio_api/run-history/buckets",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file/etc/passwd",
        "gradio_api/stream/a/b/c/playlist.m3u8",
        "gradio_api/proxy=https://example.hf.space/x",
        "gradio_api/custom_component/a/client/b/c",
    ],
)
def test_a_route_that_the_page_does_not_use_is_not_found(enter: Enter, path: str) -> None:
    assert enter("acme").get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/vibe-edit/",
        "gradio_api/undo-vibe-edit/",
        "gradio_api/component_server",
        "gradio_api/process_recording",
        "gradio_api/api/predict",
        "gradio_api/call/caption",
        "gradio_api/call/v2/caption",
        "gradio_api/run-history/connect",
        "gradio_api/stream/x",
    ],
)
def test_an_endpoint_that_the_page_does_not_use_is_not_found(enter: Enter, path: str) -> None:
    assert enter("acme").post(path, json={"data": []}).status_code == 404


def test_gradio_never_fetches_a_url_of_a_request(
    enter: Enter, canary: tuple[str, Callable[[], bool]]
) -> None:
    client, (url, was_requested) = enter("acme"), canary
    own = upload(client)
    for number, file in enumerate(
        [
            {"path": url, "meta": META},
            {"path": url, "url": url, "meta": META},
            {"path": url},
            {"path": f"{own}/../../{url}", "meta": META},
        ]
    ):
        assert join(client, caption_inputs(file), f"page{number}").status_code == 403
    # The tenant's own file is accepted, and its URL is ignored.
    answer = join(client, caption_inputs({"path": own, "url": url, "meta": META}), "page")
    assert answer.status_code == 200
    for path in (f"gradio_api/file={url}", f"gradio_api/proxy={url}"):
        assert client.get(path).status_code == 404
    assert not was_requested()


def test_a_tenant_has_no_access_to_files_pages_and_batches_of_another(
    idle: Served, enter: Enter
) -> None:
    acme, globex = enter("acme"), enter("globex")
    path = upload(acme)
    assert acme.get(f"gradio_api/file={path}").status_code == 200
    assert globex.get(f"gradio_api/file={path}").status_code == 404
    assert join(globex, caption_inputs({"path": path, "meta": META}), "globexs").status_code == 403
    assert join(acme, caption_inputs(), "acmes").status_code == 200
    assert join(globex, caption_inputs(), "acmes").status_code == 403
    for stream in (
        "gradio_api/heartbeat/acmes",
        "gradio_api/heartbeat/acmes?session_hash=globexs",
        "gradio_api/queue/data?session_hash=acmes",
        "gradio_api/queue/data?session_hash=globexs&session_hash=acmes",
    ):
        assert globex.get(stream).status_code == 404
    with Client(idle.redis_url) as client:
        client.submit_batch([], batch_id="acme.batch.x").progress()
    assert acme.get("results/x.jsonl").status_code == 200
    for path in ("results/x.jsonl", "results/x.csv", "results/..x.csv"):
        assert globex.get(path).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://example.com"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
def test_cross_site_requests_are_rejected(enter: Enter, headers: dict[str, str]) -> None:
    client = enter("acme")
    for path in ("gradio_api/queue/join", "gradio_api/upload", "login", "logout"):
        response = client.post(path, headers=headers)
        assert response.status_code == 403
        assert "another site" in response.json()["detail"]


def test_a_link_does_not_sign_out(enter: Enter) -> None:
    client = enter("acme")
    assert client.get("logout").status_code == 404
    assert client.get("gradio_api/info").status_code == 200
    assert client.post("logout").headers["location"] == "/ui/login"
    assert client.get("gradio_api/info").status_code == 401


@pytest.mark.parametrize("name", ["100%.jpg", "50%25.jpg", 'a "b" c.jpg', "größe #1?.jpg"])
def test_an_image_of_any_name_is_served(enter: Enter, name: str) -> None:
    client = enter("acme")
    path = upload(client, name)
    assert client.get(f"gradio_api/file={quote(path)}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"fn_index": 999},
        {"fn_index": None},
        {"fn_index": True},
        {"fn_index": "0"},
        {"data": []},
        {"data": None},
        {"data": caption_inputs(upload="a string")},
        {"data": caption_inputs(upload={})},
        {"data": caption_inputs(url=1)},
    ],
)
def test_a_request_that_the_page_cannot_send_is_rejected(
    enter: Enter, body: dict[str, Any]
) -> None:
    client = enter("acme")
    whole = {"data": caption_inputs(), "fn_index": 0, "session_hash": "page", **body}
    for path in ("gradio_api/queue/join", "gradio_api/run/predict"):
        assert client.post(path, json=whole).status_code == 403


@pytest.mark.parametrize("name", ["", '; filename=".."'])
def test_an_upload_without_a_file_name_is_rejected_with_a_reason(enter: Enter, name: str) -> None:
    part = f'--b\r\nContent-Disposition: form-data; name="files"{name}\r\n\r\nx\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = enter("acme").post("gradio_api/upload", content=part, headers=headers)
    assert response.status_code == 400
    assert "name" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_gateway_redirects_to_the_page_with_a_relative_url(idle: Served, path: str) -> None:
    answer = httpx.get(f"{idle.address}{path}")
    assert answer.is_redirect
    assert answer.headers["location"] == "ui/"


def test_the_page_runs_only_its_own_scripts_and_cannot_be_framed(enter: Enter) -> None:
    client = enter("acme")
    first, second = client.get("").headers, client.get("").headers
    policy = first["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert re.search(r"script-src 'self' 'nonce-[\w-]{22}'(;|$)", policy)
    assert "unsafe-eval" not in policy
    assert policy != second["content-security-policy"]
    assert first["x-frame-options"] == "DENY"
    assert first["cache-control"] == "no-store"
    assert "https://" not in re.sub(r"svg[^>]*>", "", client.get("login").text)


def test_a_request_that_is_too_large_is_rejected(idle: Served, enter: Enter) -> None:
    client = enter("acme")
    assert join(client, ["x" * MAX_BODY_BYTES], "p").status_code == 413
    # An upload even before its body arrives.
    url = urlsplit(idle.address)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    try:
        _send_headers(connection, client, 2**31)
        answer = connection.getresponse()
        assert answer.status == 413
        assert b"choose fewer files" in answer.read()
    finally:
        connection.close()


def _send_headers(
    connection: http.client.HTTPConnection, client: httpx.Client, length: int
) -> None:
    """Send the headers of an upload of `length` bytes, and no body."""
    connection.putrequest("POST", "/ui/gradio_api/upload")
    connection.putheader("Content-Length", str(length))
    connection.putheader("Cookie", f"blipline-page={client.cookies['blipline-page']}")
    connection.endheaders()


def open_gate(app: ASGIApp, directory: Path) -> AccessGate:
    """Return the gate of a page that is open as `dev`."""

    async def authenticate(key: str, address: str) -> ApiKey:
        raise AssertionError("an open page needs no key")

    return AccessGate(
        app,
        create_app(GatewaySettings.load(page_open_as="dev")).state.gateway,
        Sessions(authenticate),
        UploadQuota(str(directory), 1),
        validators={},
        pending_count=lambda _: 0,
        pending=PendingAnswers(),
    )


def test_the_access_log_of_the_page_has_the_name_of_its_visitor(tmp_path: Path) -> None:
    names: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        names.append(scope["state"]["tenant"].name)
        await PlainTextResponse("the page")(scope, receive, send)

    async def request() -> None:
        transport = httpx.ASGITransport(open_gate(app, tmp_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.get("/gradio_api/info")

    asyncio.run(request())
    assert names == ["dev"]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 200), ("localhost", 200), ("evil.example", 403)]
)
def test_an_open_page_answers_under_loopback_names_only(
    host: str, status: int, tmp_path: Path
) -> None:
    async def status_of_request() -> int:
        gate = open_gate(PlainTextResponse("the page"), tmp_path)
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8000") as client:
            return (await client.get("/gradio_api/info")).status_code

    assert asyncio.run(status_of_request()) == status
