"""The gateway as a process: it starts, says what is wrong, outlives Redis, and ends."""

from __future__ import annotations

import asyncio
import json
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
from producer.gateway.api_keys import ApiKeys
from producer.gateway.app import create_app
from producer.gateway.key_cache import MAX_NETWORK_LOOKUPS
from producer.gateway.settings import GatewaySettings
from tests.redis_servers import Server

from .conftest import Reached, Serve, Start
from .samples import CAPTION, JSONL, URL, bearer

PROGRAM = [sys.executable, "-m", "producer.cli", "gateway"]


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, where it is expected to end by itself."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=ROOT,
        env={**os.environ, "BLIPLINE_PAGE": "false", **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def wait_for_status(client: httpx.Client, path: str, status: int) -> httpx.Response:
    """Pytest's time limit ends what takes for ever."""
    while (answer := client.get(path)).status_code != status:
        time.sleep(0.1)
    return answer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own, with a password, that can be killed."""
    server = Server(tmp_path, password="s3cret-of-redis")
    server.start()
    yield server
    server.kill()


def url_of(server: Server) -> str:
    return f"redis://:{server.password}@127.0.0.1:{server.port}/0"


@pytest.fixture
def key(server: Server) -> str:
    """An API key in that Redis."""
    with server.connect() as connection:
        return ApiKeys(connection).create("acme")


# Starting


@pytest.mark.parametrize(
    ("settings", "about"),
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
def test_a_wrong_setting_is_refused_at_the_start_in_a_sentence(
    settings: dict[str, str], about: str
) -> None:
    ended = run(**settings)
    assert ended.returncode == 2
    assert ended.stderr.startswith("blipline: ")
    assert about in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "s3cret" not in ended.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--port", str(port))
    assert ended.returncode == 2
    assert f"BLIPLINE_GATEWAY_PORT={port}" in ended.stderr
    assert "in use" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_without_its_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['blipline', 'gateway'];"
        "from producer.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "pip install 'blipline[gateway]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_page_can_be_left_out(gateway: Reached) -> None:
    assert gateway.client(None).get("/ui/login").status_code == 404


def test_options_win_over_the_environment() -> None:
    ended = run("--host", "192.0.2.1", BLIPLINE_GATEWAY_HOST="127.0.0.1")
    assert (ended.returncode, "192.0.2.1" in ended.stderr) == (2, True)


# Redis


def test_it_outlives_redis_and_says_so_meanwhile(
    start_gateway: Start, server: Server, key: str
) -> None:
    own = start_gateway(url_of(server), BLIPLINE_GATEWAY_RATE="1000")
    mine = httpx.Client(base_url=own.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    with mine:
        assert mine.get("/v1/queues").status_code == 200
        server.kill()
        for path in ("/v1/queues", "/readyz", "/v1/jobs/x"):
            answer = mine.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "connection_failed")
            assert int(answer.headers["Retry-After"]) > 0
        assert mine.post("/v1/jobs", json=CAPTION).status_code == 503
        assert mine.get("/healthz").status_code == 200
        assert mine.get("/metrics").status_code == 200
        server.start()
        assert wait_for_status(mine, "/readyz", 200)
        with server.connect() as connection:
            connection.flushall()
            other = ApiKeys(connection).create("acme")
        answer = mine.get("/v1/queues", headers={"Authorization": f"Bearer {other}"})
        assert answer.status_code == 200
    assert "Traceback" not in own.output()


def test_it_starts_without_redis_and_is_not_ready(start_gateway: Start) -> None:
    own = start_gateway(f"redis://127.0.0.1:{free_port()}/0")
    with httpx.Client(base_url=own.url, timeout=60) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503


# Secrets


def test_no_secret_is_told_whatever_goes_wrong(
    start_gateway: Start, server: Server, key: str
) -> None:
    own = start_gateway(url_of(server), BLIPLINE_GATEWAY_RATE="40")
    with server.connect() as connection:
        (webhook_secret,) = ApiKeys(connection).webhook_secrets("acme")
    told: list[str] = []

    def ask(method: str, path: str, **more: Any) -> None:
        with httpx.Client(base_url=own.url, timeout=60) as client:
            more.setdefault("headers", {"Authorization": f"Bearer {key}"})
            answer = client.request(method, path, **more)
            # Who sends a key in a path is told of that path.
            if key not in path:
                told.append(answer.text + str(answer.headers))

    everything_wrong(ask, key)
    # Over the rate, without Redis, and with a Redis that knows another password.
    for _ in range(45):
        ask("GET", "/v1/queues")
    server.kill()
    for path in ("/v1/queues", "/readyz", "/metrics", "/v1/jobs/x"):
        ask("GET", path)
    ask("POST", "/v1/jobs", json=CAPTION)
    with Path(f"/proc/{own.process.pid}/cmdline").open("rb") as line:
        told.append(line.read().decode())
    own.process.send_signal(signal.SIGTERM)
    assert own.process.wait(60) == 0
    told.append(own.output())
    for secret in (key.rpartition("_")[2], "s3cret-of-redis", webhook_secret):
        assert [text for text in told if secret in text] == []


def everything_wrong(ask: Any, key: str) -> None:
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


def test_forwarded_addresses_are_believed_only_where_it_was_told_to(
    start_gateway: Start, connection: redis.Redis
) -> None:
    def looks() -> int:
        return int(connection.info("commandstats")["cmdstat_hget"]["calls"])

    def looks_at_unknown_keys(own: Reached) -> int:
        # Redis is asked for so many of each address alone.
        own.client().get("/v1/queues")
        before = looks()

        def guess(number: int) -> int:
            headers = bearer(f"blip_{number:012x}_{'0' * 48}")
            forwarded = {"X-Forwarded-For": f"192.0.2.{number}"}
            return httpx.get(f"{own.url}/v1/queues", headers=headers | forwarded).status_code

        with ThreadPoolExecutor(8) as pool:
            assert {*pool.map(guess, range(MAX_NETWORK_LOOKUPS + 20))} == {401}
        return looks() - before

    assert looks_at_unknown_keys(start_gateway()) < MAX_NETWORK_LOOKUPS + 10
    believing = start_gateway(FORWARDED_ALLOW_IPS="127.0.0.1")
    assert looks_at_unknown_keys(believing) >= MAX_NETWORK_LOOKUPS + 20


# Ending


def test_sigterm_answers_who_waits_with_what_there_is(start_gateway: Start) -> None:
    own = start_gateway()
    put, get = own.client(), own.client()
    path, wait = "/v1/jobs/ends-with-it", {"Prefer": "wait=60"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(put.put, path, json=CAPTION, headers=wait)
        # Once there is the job, its submission is being answered.
        wait_for_status(get, path, 200)
        own.process.send_signal(signal.SIGTERM)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert own.process.wait(60) == 0
    assert "Traceback" not in own.output()


def test_what_does_not_end_in_time_is_told_so(
    served: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("producer.gateway.server.GRACE_S", 0)
    app, begun = create_app(GatewaySettings(redis_url=redis_url)), threading.Event()

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


def test_ctrl_c_ends_it_without_a_traceback(start_gateway: Start) -> None:
    own = start_gateway()
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(60) == 130
    assert "Traceback" not in own.output()


def test_sigterm_ends_streams_that_have_no_end(start_gateway: Start) -> None:
    own = start_gateway()
    client = own.client()
    lines = "".join(json.dumps({"image": URL, "custom_id": str(n)}) + "\n" for n in range(3))
    sent = client.post("/v1/batches?id=streamed", content=lines.encode(), headers=JSONL)
    assert sent.status_code == 202
    with client.stream("GET", "/v1/batches/streamed/events") as answer:
        assert answer.status_code == 200
        chunks = answer.iter_bytes()
        assert next(chunks)
        own.process.send_signal(signal.SIGTERM)
        for _ in chunks:
            pass
    assert own.process.wait(60) == 0
    assert "Traceback" not in own.output()
    assert "Cancel" not in own.output()
