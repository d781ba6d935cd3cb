"""No response, log, metric or command line shows a secret."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from demo.stack import ROOT, free_port, running_redis
from demo.tour import pictures
from producer import Client
from producer.connection.connect import connect
from producer.gateway.access.api_keys import ApiKeys
from tests.echo_worker import ENVIRONMENT
from tests.faults.hosts import running_host
from tests.language_model import completion, running_language_model

PASSWORD: Final = "redis-password-0451"
FLOWER_AUTH: Final = "ann:flower-password-0452"
#: Secrets in the addresses of images and webhooks.
SIGNATURE: Final = "presigned-0453"
URL_PASSWORD: Final = "url-password-0454"
HOOK_TOKEN: Final = "hook-token-0455"
POLISH_KEY: Final = "polish-key-0456"
#: A key that does not exist, like a mistyped one.
WRONG_KEY: Final = "blip_0123456789ab_" + "c0ffee" * 8


def wait_until(condition: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.1)


@contextmanager
def running(name: str, logs: Path, settings: Mapping[str, str], *command: str) -> Iterator[None]:
    """Run a process, with its whole output in a log."""
    with (logs / name).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def redis_with_password() -> Iterator[str]:
    with running_redis() as url, connect(url) as connection:
        connection.config_set("requirepass", PASSWORD)
        yield url.replace("//", f"//:{PASSWORD}@")
        connection.config_set("requirepass", "")


def flower_tasks(port: int) -> str:
    credentials = base64.b64encode(FLOWER_AUTH.encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/tasks", headers={"Authorization": f"Basic {credentials}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


@pytest.mark.parametrize(
    ("log_format", "engine"),
    [
        ("json", "echo"),
        pytest.param("json", "model", marks=pytest.mark.exhaustive),
        pytest.param("human", "model", marks=pytest.mark.exhaustive),
    ],
)
def test_no_secret_is_shown_anywhere(
    redis_with_password: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    log_format: str,
    engine: str,
) -> None:
    url, logs = redis_with_password, tmp_path
    flower, gateway, figures = free_port(), free_port(), free_port()
    model = engine == "model"
    settings = {
        **(
            {"BLIPLINE_MODEL": str(request.getfixturevalue("checkpoint"))} if model else ENVIRONMENT
        ),
        "BLIPLINE_REDIS_URL": url,
        "BLIPLINE_RUN_DIR": str(tmp_path / "r"),
        "BLIPLINE_FETCH_ALLOW": "127.0.0.0/8",
        "BLIPLINE_WEBHOOK_ALLOW": "127.0.0.0/8",
        "BLIPLINE_METRICS_PORT": str(figures),
        "BLIPLINE_GATEWAY_PORT": str(gateway),
        "BLIPLINE_PAGE": "false",
        "BLIPLINE_LOG_FORMAT": log_format,
        "BLIPLINE_LOG_LEVEL": "debug",
        "BLIPLINE_POLISH_MODEL": "small",
        "BLIPLINE_POLISH_KEY": POLISH_KEY,
        "BLIPLINE_FLOWER_PORT": str(flower),
        "BLIPLINE_FLOWER_AUTH": FLOWER_AUTH,
    }
    config = ROOT / "config" / "flowerconfig.py"
    command = ("celery", "-A", "worker.celery_app", "flower", f"--conf={config}")
    with ExitStack() as stack, connect(url) as connection:
        settings["BLIPLINE_POLISH_URL"], language_model = stack.enter_context(
            running_language_model()
        )
        keys = ApiKeys(connection)
        key = keys.create("acme")
        secrets = [PASSWORD, FLOWER_AUTH, SIGNATURE, URL_PASSWORD, HOOK_TOKEN, WRONG_KEY, key]
        secrets.append(POLISH_KEY)
        secrets += [key.rpartition("_")[2], *keys.webhook_secrets("acme")]
        stack.enter_context(running("flower", logs, settings, *command))
        stack.enter_context(running("gateway", logs, settings, "producer.cli", "gateway"))
        stack.enter_context(running("worker", logs, settings, "worker"))
        picture = pictures()[0]
        host = stack.enter_context(running_host({"a.png": picture.read_bytes()}))
        at = f"http://127.0.0.1:{gateway}"
        announcements = {"ready", f"gateway: {at}"}
        wait_until(lambda: answers(f"{at}/readyz"), "no gateway")
        wait_until(lambda: answers(f"http://127.0.0.1:{flower}/healthcheck"), "no Flower")
        wait_until((tmp_path / "r" / "ready").exists, "no worker")

        shown: list[str] = []
        with httpx.Client(base_url=at, timeout=60) as http:
            http.headers["Authorization"] = f"Bearer {key}"

            def job(image: str, **more: Any) -> dict[str, Any]:
                payload = {"task": "caption", **more, "image": image}
                answer = http.post("/v1/jobs", json=payload, headers={"Prefer": "wait=50"})
                shown.append(answer.text)
                body: dict[str, Any] = answer.json()
                return body

            hook = f"http://127.0.0.1:{host.server_port}/hook?token={HOOK_TOKEN}"
            good = job(host.address("a.png", f"X-Amz-Signature={SIGNATURE}"), webhook=hook)
            assert good["status"] == "done"
            # A language model that shows the key that it was called with.
            language_model.replies += [(200, completion("Polished.")), (500, {"error": POLISH_KEY})]
            for prompt, more in (("a", "unpolished"), ("b", "warning")):
                image = host.address("a.png", f"X-Amz-Signature={SIGNATURE}")
                described = job(image, task="describe", prompts=[prompt], detail="low")
                assert described["output"][more], described
            assert described["output"]["warning"].endswith("HTTP 500")
            assert {key for _, key, _ in language_model.requests} == {f"Bearer {POLISH_KEY}"}
            missing = job(host.address("b.png", f"X-Amz-Signature={SIGNATURE}"))
            assert missing["error"]["code"] == "image_unreachable"
            rejected = job(f"http://user:{URL_PASSWORD}@127.0.0.1:{host.server_port}/a.png")
            assert rejected.get("status") in (422, "failed")
            for headers in ({"Authorization": f"Bearer {WRONG_KEY}"}, {"Authorization": WRONG_KEY}):
                answer = http.get(f"/v1/jobs/x?key={WRONG_KEY}", headers=headers)
                assert answer.status_code == 401
                shown.append(answer.text)
            line = json.dumps({"image": host.address("c.png", SIGNATURE)})
            answer = http.post("/v1/batches?id=photos", content=line)
            assert answer.status_code == 202, answer.text
            results = http.get("/v1/batches/photos/results?wait=true")
            assert "image_unreachable" in results.text
            shown += [results.text, http.get("/metrics").text, http.get("/readyz").text]
        with Client(url) as client:
            shown.append(repr(client.submit(str(picture)).result(timeout=60)))
        wait_until(lambda: "127.0.0.1" in flower_tasks(flower), "Flower shows no task")
        # The host answers the webhook with 501, which is retried: one try is enough.
        wait_until(lambda: "webhook" in (logs / "gateway").read_text(), "no webhook was tried")
        shown += [flower_tasks(flower), httpx.get(f"http://127.0.0.1:{flower}/metrics").text]
        shown.append(httpx.get(f"http://127.0.0.1:{figures}/metrics").text)
        # The command lines, which every user of the machine can list.
        shown += [path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if own(path)]
    outputs = [(logs / name).read_text() for name in ("worker", "gateway", "flower")]
    shown += outputs
    if log_format == "json":
        lines = [line for output in outputs for line in output.splitlines()]
        roles = {json.loads(line)["process"] for line in lines if line not in announcements}
        assert roles == {"supervisor", "engine", "consumer", "gateway", "flower"}
    for secret in secrets:
        for text in shown:
            position = text.find(secret)
            assert position < 0, text[max(0, position - 200) : position + 100]


def own(cmdline: Path) -> bool:
    try:
        return "worker" in cmdline.read_text() or "producer" in cmdline.read_text()
    except OSError:
        return False
