"""Flower shows the tasks, readable and in every state."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from typing import Any

import pytest

from demo.stack import running_flower
from producer import Client
from tests.system.conftest import Stack

AUTH = "ann:secret"
JOBS = 100
URL = "http://127.0.0.1:1/cat.jpg"


def tasks(address: str) -> list[dict[str, Any]]:
    token = base64.b64encode(AUTH.encode()).decode()
    request = urllib.request.Request(
        f"{address}/api/tasks", headers={"Authorization": f"Basic {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return list(json.load(response).values())


def wait_for_task(address: str, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for task in tasks(address):
            if task["uuid"] == job_id and task["state"] == "SUCCESS":
                return task
        time.sleep(0.1)
    raise AssertionError(f"Flower never showed {job_id} succeed: {tasks(address)}")


def test_flower_shows_readable_arguments_results_and_states(
    stack: Stack, user: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIPLINE_FLOWER_AUTH", AUTH)
    with running_flower(stack.redis_url) as address:
        # Flower shows only the tasks that start after it listens.
        deadline = time.monotonic() + 30
        while not tasks(address):
            assert time.monotonic() < deadline, "Flower shows no task"
            user.ask(URL, "is anybody there?")
            time.sleep(0.1)
        # Many at once, so that events come from many threads at the same time.
        jobs = [user.ask(URL, "what shape is it?") for _ in range(JOBS)]
        seen = [wait_for_task(address, job.id) for job in jobs]
    for task in seen:
        assert task["name"] == "blipline.vqa"
        assert task["kwargs"] == f"{URL} 'what shape is it?'"
        assert "image_blocked" in task["result"]
        assert task["received"]
        assert task["started"]
        assert task["succeeded"]
