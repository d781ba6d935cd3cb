"""The other examples, each run as its docstring describes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.stack import ROOT
from tests.examples.conftest import CAPTIONS, EXAMPLES, IMAGES, Stack, running_site

PICTURES = ("scene-01.png", "scene-02.jpg")


def output(stack: Stack, cwd: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=stack.environment(), capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_runs_every_kind_of_request(stack: Stack, tmp_path: Path) -> None:
    printed = output(
        stack, tmp_path, str(EXAMPLES / "curl.sh"), *(str(IMAGES / name) for name in PICTURES)
    )
    titles = [line for line in printed.splitlines() if line.startswith("== ")]
    parts = dict(zip(titles, printed.split("== ")[1:], strict=True))
    caption, events, results, errors = (
        next(part for part in parts.values() if part.startswith(start))
        for start in ("a caption", "its events", "its results", "its failed items")
    )
    assert json.loads(caption.splitlines()[1])["output"]["text"] == CAPTIONS[PICTURES[-1]]
    assert "event: end" in events
    lines = [json.loads(line) for line in results.splitlines()[1:]]
    assert [line["custom_id"] for line in lines] == [*PICTURES, "no picture"]
    assert [line.get("text") for line in lines] == [*map(CAPTIONS.get, PICTURES), None]
    assert [json.loads(line)["custom_id"] for line in errors.splitlines()[1:]] == ["no picture"]
    assert stack.key not in printed


def test_curl_names_a_missing_picture_before_it_sends_any(stack: Stack, tmp_path: Path) -> None:
    stack.front.seen.clear()
    command = [str(EXAMPLES / "curl.sh"), str(IMAGES / PICTURES[0]), "none.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=stack.environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("none.png: no such file")
    assert stack.front.seen == []


def test_curl_retries_a_busy_gateway(stack: Stack, tmp_path: Path) -> None:
    stack.front.reject("POST", 1, retry_after_s=1)
    printed = output(stack, tmp_path, str(EXAMPLES / "curl.sh"), str(IMAGES / PICTURES[0]))
    assert CAPTIONS[PICTURES[0]] in printed


def test_plain_celery_submits_and_reads(stack: Stack, tmp_path: Path, pictures: str) -> None:
    urls = [f"{pictures}/{name}" for name in (*PICTURES, "none.png")]
    printed = output(stack, tmp_path, sys.executable, str(EXAMPLES / "send_task.py"), *urls)
    answer, *captions, error = printed.splitlines()
    assert answer.split("? ")[1] in CAPTIONS[PICTURES[0]]
    assert captions == [
        f"{url} {CAPTIONS[name]}" for url, name in zip(urls, PICTURES, strict=False)
    ]
    assert error.startswith(f"{urls[-1]} image_unreachable: ")


@pytest.fixture
def async_site(stack: Stack, tmp_path: Path) -> Iterator[str]:
    # Under the name in the wheel.
    (tmp_path / "blipline").symlink_to(ROOT / "producer")
    command = ["uvicorn", "async_client:app", "--port", "{port}", "--log-level", "warning"]
    with running_site(command, stack.environment(), tmp_path) as address:
        yield address


def test_a_site_around_the_async_client_needs_no_gateway(async_site: str, pictures: str) -> None:
    with httpx.Client(base_url=async_site, timeout=60) as site:
        submitted = site.post("/caption", json={"image": f"{pictures}/{PICTURES[0]}"})
        assert submitted.status_code == 202
        job = site.get(f"/jobs/{submitted.json()['id']}", params={"wait_s": 30})
        assert job.json() == {"status": "done", "text": CAPTIONS[PICTURES[0]]}
        assert site.get("/jobs/none").status_code == 404
