"""Descriptions through every surface of the whole system."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from celery import Celery
from PIL import Image

from demo.evaluate_describe import judge
from demo.scenes import draw, is_clear, random_scene
from demo.stack import ROOT
from producer import AsyncClient, Client, Description, JobCancelled, JobFailed
from tests.system.conftest import Stack

SEEDED: dict[str, Any] = {"num_beams": 3, "temperature": 0.7, "seed": 4, "length_penalty": 2.0}


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("describe") / "scene.png"
    rng = Random(5)
    path.write_bytes(encoded(draw(random_scene(rng, 2), 128, 128)))
    return path


def timeless(output: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a description that a seed determines."""
    unset = ("unpolished", "warning")
    known = {name: value for name, value in output.items() if name not in unset or value}
    return {name: value for name, value in known.items() if name != "seconds"}


def of_client(stack: Stack, picture: Path) -> dict[str, Any]:
    with Client(stack.redis_url) as client:
        return client.describe(picture, detail="low", **SEEDED).result(90).to_json()


def of_async_client(stack: Stack, picture: Path) -> dict[str, Any]:
    async def describe() -> Description:
        async with AsyncClient(stack.redis_url) as client:
            job = await client.describe(picture, detail="low", **SEEDED)
            return await job.result(90)

    return asyncio.run(describe()).to_json()


def of_batch(stack: Stack, picture: Path) -> dict[str, Any]:
    with Client(stack.redis_url) as client:
        item = {"image": picture, "task": "describe", "detail": "low"}
        first, second = client.submit_batch([picture, item], **SEEDED).results(90)
        assert first.description is None
        assert second.description is not None
        return second.output()


def of_plain_celery(stack: Stack, picture: Path) -> dict[str, Any]:
    with Client(stack.redis_url) as client:
        item = {"image": client.upload(picture), "detail": "low"}
    app = Celery(broker=stack.redis_url, backend=stack.redis_url)
    message = {"items": [item], "options": SEEDED}
    sent = app.send_task("blipline.describe", kwargs=message, queue="interactive")
    (result,) = sent.get(timeout=90)
    return dict(result)


def of_shell(stack: Stack, picture: Path) -> dict[str, Any]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SEEDED.items()]
    command = [sys.executable, "-m", "producer.cli", "describe", str(picture), "--detail", "low"]
    command += [*options, "--json", "--redis-url", stack.redis_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout)
    assert (line.pop("image"), line.pop("status")) == (str(picture), "ok")
    return line


def test_every_surface_gives_the_same_description(
    stack: Stack, picture: Path, gateway: httpx.Client
) -> None:
    expected = timeless(of_client(stack, picture))
    assert expected["candidates"]
    for surface in (of_async_client, of_batch, of_plain_celery, of_shell):
        assert timeless(surface(stack, picture)) == expected, surface.__name__
    image = gateway.post("/v1/images", content=picture.read_bytes()).json()["image"]
    body = {"task": "describe", "image": image, "detail": "low", "options": SEEDED}
    job = gateway.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"}).json()
    assert (job["status"], timeless(job["output"])) == ("done", expected)
    line = json.dumps({"image": image, "task": "describe", "detail": "low"})
    query = {"id": "described", **SEEDED}
    gateway.post("/v1/batches", params=query, content=line, headers={"Content-Type": "text/plain"})
    results = gateway.get("/v1/batches/described/results", params={"wait": True})
    named = json.loads(results.text)
    assert {name: named[name] for name in expected} == expected


def test_the_demo_model_names_all_of_a_scene_and_nothing_else(user: Client) -> None:
    rng = Random(31)
    scenes = [scene for scene in (random_scene(rng) for _ in range(12)) if is_clear(scene, 96, 96)]
    items = [encoded(draw(scene, 96, 96)) for scene in scenes]
    descriptions = [r.description for r in user.submit_batch(items, "describe").results(120)]
    for scene, description in zip(scenes, descriptions, strict=True):
        assert description is not None
        assert False not in judge(scene, description.text).values(), scene.caption()
        assert description.ranked_by == "match"


def test_a_description_is_cancelled_and_has_a_deadline(user: Client, picture: Path) -> None:
    long: dict[str, Any] = {"min_new_tokens": 400, "max_new_tokens": 450, "num_beams": 8}
    job = user.describe(picture, detail="high", **long)
    time.sleep(0.2)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(60)
    late = user.describe(picture, detail="high", deadline_s=0.5, **long)
    with pytest.raises(JobFailed, match="deadline_exceeded"):
        late.result(60)


def test_a_prompt_beyond_the_models_length_fails_by_name(user: Client, picture: Path) -> None:
    with pytest.raises(JobFailed, match="prompt_too_long"):
        user.describe(picture, prompts=["", "circle " * 600]).result(60)
