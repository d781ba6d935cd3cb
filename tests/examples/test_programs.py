"""The other examples, each run as its docstring says."""

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


def test_curl_alone_does_it_all(stack: Stack, tmp_path: Path) -> None:
    said = output(
        stack, tmp_path, str(EXAMPLES / "curl.sh"), *(str(IMAGES / one) for one in PICTURES)
    )
    titles = [line for line in said.splitlines() if line.startswith("== ")]
    parts = dict(zip(titles, said.split("== ")[1:], strict=True))
    caption, events, results, errors = (
        next(part for part in parts.values() if part.startswith(start))
        for start in ("a caption", "its events", "its results", "what failed")
    )
    assert json.loads(caption.splitlines()[1])["output"]["text"] == CAPTIONS[PICTURES[-1]]
    assert "event: end" in events
    lines = [json.loads(line) for line in results.splitlines()[1:]]
    assert [line["custom_id"] for line in lines] == [*PICTURES, "no picture"]
    assert [line.get("text") for line in lines] == [*map(CAPTIONS.get, PICTURES), None]
    assert [json.loads(line)["custom_id"] for line in errors.splitlines()[1:]] == ["no picture"]
    assert stack.key not in said


def test_curl_says_which_picture_is_missing_before_it_sends_any(
    stack: Stack, tmp_path: Path
) -> None:
    stack.front.seen.clear()
    command = [str(EXAMPLES / "curl.sh"), str(IMAGES / PICTURES[0]), "none.png"]
    done = subprocess.run(
        command, cwd=tmp_path, env=stack.environment(), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("none.png: no such file")
    assert stack.front.seen == []


def test_a_busy_gateway_is_asked_again_by_curl(stack: Stack, tmp_path: Path) -> None:
    stack.front.refuse("POST", 1, retry_after_s=1)
    said = output(stack, tmp_path, str(EXAMPLES / "curl.sh"), str(IMAGES / PICTURES[0]))
    assert CAPTIONS[PICTURES[0]] in said


def test_celery_alone_does_it(stack: Stack, tmp_path: Path, pictures: str) -> None:
    urls = [f"{pictures}/{name}" for name in (*PICTURES, "none.png")]
    said = output(stack, tmp_path, sys.executable, str(EXAMPLES / "send_task.py"), *urls)
    answer, *captions, error = said.splitlines()
    assert answer.split("? ")[1] in CAPTIONS[PICTURES[0]]
    assert captions == [
        f"{url} {CAPTIONS[name]}" for url, name in zip(urls, PICTURES, strict=False)
    ]
    assert error.startswith(f"{urls[-1]} image_unreachable: ")


@pytest.fixture
def async_site(stack: Stack, tmp_path: Path) -> Iterator[str]:
    # As the wheel has it.
    (tmp_path / "blipline").symlink_to(ROOT / "producer")
    command = ["uvicorn", "async_client:app", "--port", "{port}", "--log-level", "warning"]
    with running_site(command, stack.environment(), tmp_path) as address:
        yield address


def test_a_site_around_the_async_client_needs_no_gateway(async_site: str, pictures: str) -> None:
    with httpx.Client(base_url=async_site, timeout=60) as site:
        asked = site.post("/caption", json={"image": f"{pictures}/{PICTURES[0]}"})
        assert asked.status_code == 202
        found = site.get(f"/jobs/{asked.json()['id']}", params={"wait_s": 30})
        assert found.json() == {"status": "done", "text": CAPTIONS[PICTURES[0]]}
        assert site.get("/jobs/none").status_code == 404
