"""The gateway as a process: start, errors, Redis outages, and shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from demo.stack import ROOT, free_port
from producer.cli import app as cli
from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.key_cache import MAX_NETWORK_LOOKUPS
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from tests.redis_servers import Server

from .conftest import Reached, Run, Serve, Start
from .samples import CAPTION, bearer

PROGRAM = [sys.executable, "-m", "producer.cli", "gateway"]


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env={**os.environ, "BLIPLINE_PAGE": "false", **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def wait_for_status(client: httpx.Client, path: str, status: int) -> httpx.Response:
    while (answer := client.get(path)).status_code != status:
        time.sleep(0.1)
    return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis with a password that the test can kill."""
    server = Server(tmp_path, password="s3cret-of-redis")
    server.start()
    yield server
    server.kill()


def url_of(server: Server) -> str:
    return f"redis://:{server.password}@127.0.0.1:{server.port}/0"


@pytest.fixture
def key(server: Server) -> str:
    """Create an API key in that Redis."""
    with server.connect() as connection:
        return ApiKeys(connection).create("acme")


# Starting


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"BLIPLINE_GATEWAY_PORT": "x"}, "BLIPLINE_GATEWAY_PORT"),
        ({"BLIPLINE_GATEWAY_RATE": "-1"}, "BLIPLINE_GATEWAY_RATE"),
        ({"BLIPLINE_GATEWAY_CORS_ORIGINS": "evil"}, "BLIPLINE_GATEWAY_CORS_ORIGINS"),
        ({"BLIPLINE_GATEWAY_HOST": "192.0.2.1"}, "BLIPLINE_GATEWAY_HOST"),
        ({"BLIPLINE_GATEWAY_HOST": "no.such.host.invalid"}, "BLIPLINE_GATEWAY_HOST"),
        ({"BLIPLINE_REDIS_URL": "http://:s3cret@x"}, "BLIPLINE_REDIS_URL"),
        (
            {"BLIPLINE_GATEWAY_HOST": "0.0.0.0", "BLIPLINE_PAGE_OPEN_AS": "demo"},
            "BLIPLINE_PAGE_OPEN_AS",
        ),
    ],
)
def test_an_invalid_setting_ends_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    expected: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert cli.run(["gateway"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("blipline: ")
    assert expected in message
    assert message.count("\n") == 1
    assert "s3cret" not in message


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run("--port", str(port))
    assert process.returncode == 2
    assert process.stderr.startswith("blipline: ")
    assert f"BLIPLINE_GATEWAY_PORT={port}" in process.stderr
    assert "in use" in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_missing_extra_is_reported_with_the_install_command() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['blipline', 'gateway'];"
        "from producer.cli import main; main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 2
    assert "pip install '.[gateway]'" in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_page_can_be_disabled(gateway: Reached) -> None:
    assert gateway.client(None).get("/ui/login").status_code == 404


def test_options_override_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BLIPLINE_GATEWAY_HOST", "127.0.0.1")
    assert cli.run(["gateway", "--host", "192.0.2.1"]) == 2
    assert "192.0.2.1" in capsys.readouterr().err


# Redis


def test_the_gateway_survives_a_redis_outage(
    start_gateway: Start, server: Server, key: str
) -> None:
    own = start_gateway(url_of(server), BLIPLINE_GATEWAY_RATE="1000", BLIPLINE_REDIS_WAIT_S="1")
    client = httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    with client:
        assert client.get("/v1/queues").status_code == 200
        server.kill()
        for path in ("/v1/queues", "/readyz", "/v1/jobs/x"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "connection_failed")
            assert int(answer.headers["Retry-After"]) > 0
        assert client.post("/v1/jobs", json=CAPTION).status_code == 503
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        server.start()
        assert wait_for_status(client, "/readyz", 200)
        with server.connect() as connection:
            connection.flushall()
            new_key = ApiKeys(connection).create("acme")
        answer = client.get("/v1/queues", headers={"Authorization": f"Bearer {new_key}"})
        assert answer.status_code == 200
    assert "Traceback" not in own.output()


def test_the_gateway_starts_without_redis_and_is_not_ready(served: Serve) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    app = create_app(GatewaySettings.load(redis_url=nowhere, page=False))
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503


# Secrets


def test_no_response_or_log_contains_a_secret(
    start_gateway: Start, server: Server, key: str
) -> None:
    own = start_gateway(url_of(server), BLIPLINE_GATEWAY_RATE="40", BLIPLINE_REDIS_WAIT_S="1")
    with server.connect() as connection:
        (webhook_secret,) = ApiKeys(connection).webhook_secrets("acme")
    outputs: list[str] = []

    def ask(method: str, path: str, **more: Any) -> None:
        with httpx.Client(base_url=own.url, timeout=60) as client:
            more.setdefault("headers", {"Authorization": f"Bearer {key}"})
            answer = client.request(method, path, **more)
            # A path with the key is part of the response.
            if key not in path:
                outputs.append(answer.text + str(answer.headers))

    send_invalid_requests(ask, key)
    # Above the rate limit, and without Redis.
    for _ in range(45):
        ask("GET", "/v1/queues")
    server.kill()
    for path in ("/v1/queues", "/readyz", "/metrics", "/v1/jobs/x"):
        ask("GET", path)
    ask("POST", "/v1/jobs", json=CAPTION)
    with Path(f"/proc/{own.process.pid}/cmdline").open("rb") as line:
        outputs.append(line.read().decode())
    own.process.send_signal(signal.SIGTERM)
    assert own.process.wait(60) == 0
    outputs.append(own.output())
    for secret in (key.rpartition("_")[2], "s3cret-of-redis", webhook_secret):
        assert [text for text in outputs if secret in text] == []


def send_invalid_requests(ask: Any, key: str) -> None:
    for header in (key, f"Basic {key}", f"bearer {key}x", f"Bearer {key} {key}", f"Bearer  {key}"):
        ask("GET", "/v1/queues", headers={"Authorization": header})
    ask("GET", f"/v1/queues?key={key}")
    ask("GET", f"/{key}")
    ask("GET", f"/v1/jobs/{key}")
    ask("GET", "/v1/queues", headers={"X-Request-Id": f"{key}!"})
    ask("GET", "/v1/queues", headers={"Cookie": key, "Referer": key, "User-Agent": key})
    ask("POST", "/v1/jobs", content=b"{")
    ask("POST", "/v1/jobs", content=b'"x' * 100, headers={"Authorization": f"Bearer {key}"})
    ask("POST", "/v1/jobs", json={**CAPTION, "image": "redis://:s3cret-of-nobody@x"})
    ask("POST", "/v1/jobs", json={**CAPTION, "nonsense": 1})
    ask("PUT", "/v1/jobs/a%20b", json=CAPTION)
    ask("POST", "/v1/batches?task=caption", content=b"not json\n")
    ask("DELETE", "/v1/batches/nothing")
    ask("TRACE", "/v1/queues")


# The server


def test_forwarded_addresses_are_trusted_only_if_configured(
    run_gateway: Run, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookups() -> int:
        return int(connection.info("commandstats")["cmdstat_hget"]["calls"])

    def lookups_of_unknown_keys(own: Reached) -> int:
        # The look-ups of each network are limited.
        client = own.client()
        client.get("/v1/queues")
        before = lookups()

        def guess(number: int) -> int:
            headers = bearer(f"blip_{number:012x}_{'0' * 48}")
            forwarded = {"X-Forwarded-For": f"192.0.2.{number}"}
            return client.get("/v1/queues", headers=headers | forwarded).status_code

        with ThreadPoolExecutor(8) as pool:
            assert {*pool.map(guess, range(MAX_NETWORK_LOOKUPS + 20))} == {401}
        return lookups() - before

    assert lookups_of_unknown_keys(run_gateway()) < MAX_NETWORK_LOOKUPS + 10
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    assert lookups_of_unknown_keys(run_gateway()) >= MAX_NETWORK_LOOKUPS + 20


# Ending


def test_sigterm_answers_long_polls_with_the_current_status(start_gateway: Start) -> None:
    own = start_gateway()
    put, get = own.client(), own.client()
    path, wait = "/v1/jobs/ends-with-it", {"Prefer": "wait=60"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(put.put, path, json=CAPTION, headers=wait)
        # The job exists, so its submission waits for the result.
        wait_for_status(get, path, 200)
        own.process.send_signal(signal.SIGTERM)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert own.process.wait(60) == 0
    assert "Traceback" not in own.output()


def test_a_request_that_outlasts_the_grace_period_gets_a_503(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("producer.gateway.server.GRACE_S", 0)
    app, begun = create_app(GatewaySettings.load(redis_url=redis_url)), threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.sleep(1000)

    app.add_api_route("/never", never)
    with ThreadPoolExecutor(1) as pool:
        with served(app) as url:
            waiting = pool.submit(httpx.get, f"{url}/never", timeout=60)
            assert begun.wait(60)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("presses", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_ctrl_c_ends_the_gateway_without_a_traceback(start_gateway: Start, presses: int) -> None:
    own = start_gateway()
    for _ in range(presses):
        own.process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    assert own.process.wait(60) == 130
    assert "Traceback" not in own.output()
