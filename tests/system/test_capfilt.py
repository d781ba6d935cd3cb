"""CapFilt through every surface of the whole system."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from celery import Celery

from demo.scenes import Scene, draw, random_scene
from producer import AsyncClient, Client, FilterResult, JobCancelled, JobFailed
from producer.cli.app import run
from producer.cli.exit_codes import Exit
from tests.system.conftest import Stack

WRONG = "a star above a circle on a black background"
TERMS: dict[str, Any] = {"captions": 2, "threshold": 0.6, "synthetic_threshold": 0.4}
SEED: dict[str, Any] = {"seed": 7}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return random_scene(Random(11), 2)


@pytest.fixture(scope="module")
def picture(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, file = tmp_path_factory.mktemp("capfilt") / "scene.png", io.BytesIO()
    draw(scene, 128, 128).save(file, "PNG")
    path.write_bytes(file.getvalue())
    return path


@pytest.fixture(scope="module")
def texts(scene: Scene) -> list[str]:
    return [WRONG, scene.caption()]


def of_async_client(stack: Stack, picture: Path, texts: list[str]) -> dict[str, Any]:
    async def capfilt() -> FilterResult:
        async with AsyncClient(stack.redis_url) as client:
            job = await client.capfilt(picture, texts, **TERMS, **SEED)
            return await job.result(90)

    return asyncio.run(capfilt()).to_json()


def of_batch(stack: Stack, picture: Path, texts: list[str]) -> dict[str, Any]:
    with Client(stack.redis_url) as client:
        item = {"image": picture, "task": "capfilt", "texts": texts, **TERMS}
        _, result = client.submit_batch([picture, item], **SEED).results(90)
        assert result.filter_result is not None
        return result.output()


def of_plain_celery(stack: Stack, picture: Path, texts: list[str]) -> dict[str, Any]:
    with Client(stack.redis_url) as client:
        item = {"image": client.upload(picture), "texts": texts, **TERMS}
    app = Celery(broker=stack.redis_url, backend=stack.redis_url)
    message = {"items": [item], "options": SEED}
    sent = app.send_task("blipline.capfilt", kwargs=message, queue="interactive")
    (result,) = sent.get(timeout=90)
    return dict(result)


def of_lines(stack: Stack, picture: Path, texts: list[str]) -> dict[str, Any]:
    """Filter a pair for each text, by the command."""
    pairs = [{"image": picture.name, "text": text} for text in texts]
    path = picture.with_name("pairs.jsonl")
    path.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    return of_shell(stack, path)


def of_folder(stack: Stack, picture: Path, texts: list[str], *more: str) -> dict[str, Any]:
    """Filter the folder of the picture, whose caption file has all texts, by the command."""
    picture.with_suffix(".txt").write_text("\n".join(texts))
    return of_shell(stack, picture.parent, *more)


def of_shell(stack: Stack, source: Path, *more: str) -> dict[str, Any]:
    paths = [str(source.with_name(f"{name}.jsonl")) for name in ("accepted", "rejected")]
    options = ["--captions=2", "--threshold=0.6", "--synthetic-threshold=0.4", "--seed=7"]
    command = ["capfilt", str(source), "-o", paths[0], "--rejected", paths[1], *options]
    assert run([*command, *more, "--redis-url", stack.redis_url]) == Exit.OK
    fields = ("text", "source", "probability", "cosine")
    accepted, rejected = (
        [
            {name: line[name] for name in fields}
            for line in map(json.loads, Path(path).read_text().splitlines())
        ]
        for path in paths
    )
    return {"accepted": accepted, "rejected": rejected}


def test_every_surface_gives_the_same_texts(
    stack: Stack, user: Client, picture: Path, texts: list[str], gateway: httpx.Client
) -> None:
    expected = user.capfilt(picture, texts, **TERMS, **SEED).result(90).to_json()
    for surface in (of_async_client, of_batch, of_plain_celery):
        assert surface(stack, picture, texts) == expected, surface.__name__
    # Each pair has a synthetic caption of its own in the files.
    lines, folder = of_lines(stack, picture, texts), of_folder(stack, picture, texts)
    for name in ("accepted", "rejected"):
        assert [text["text"] for text in folder[name]] == [text["text"] for text in expected[name]]
        shown = {(line["source"], line["text"]): line for line in lines[name]}
        for text in expected[name]:
            line = shown[text["source"], text["text"]]
            # Scores differ in the last digit with the rows that are computed together.
            assert line["probability"] == pytest.approx(text["probability"], abs=1e-5)
            assert line["cosine"] == pytest.approx(text["cosine"], abs=1e-5)
        assert sum(line["source"] == "web" for line in lines[name]) == sum(
            text["source"] == "web" for text in expected[name]
        )
    image = gateway.post("/v1/images", content=picture.read_bytes()).json()["image"]
    body = {"task": "capfilt", "image": image, "texts": texts, **TERMS}
    job = gateway.post("/v1/jobs", json=body | {"options": SEED}, headers={"Prefer": "wait=60"})
    assert (job.json()["status"], job.json()["output"]) == ("done", expected)
    query: dict[str, Any] = {"id": "filtered", **SEED}
    headers = {"Content-Type": "text/plain"}
    gateway.post("/v1/batches", params=query, content=json.dumps(body), headers=headers)
    results = gateway.get("/v1/batches/filtered/results", params={"wait": True})
    line = json.loads(results.text)
    assert {name: line[name] for name in expected} == expected


def test_an_adapter_writes_the_synthetic_captions(
    stack: Stack, user: Client, picture: Path, texts: list[str]
) -> None:
    expected = user.capfilt(picture, texts, adapter="red", **TERMS, **SEED).result(90).to_json()
    assert expected != user.capfilt(picture, texts, **TERMS, **SEED).result(90).to_json()
    folder = of_folder(stack, picture, texts, "--adapter", "red")
    for name in ("accepted", "rejected"):
        assert [text["text"] for text in folder[name]] == [text["text"] for text in expected[name]]


def test_true_texts_are_accepted_and_wrong_ones_rejected(
    user: Client, picture: Path, texts: list[str], scene: Scene
) -> None:
    result = user.capfilt(picture, texts, captions=3, seed=1).result(90)
    assert WRONG in [text.text for text in result.rejected]
    assert result.text == scene.caption()
    assert result.accepted[0].source == "web"
    alone = user.capfilt(picture, WRONG, captions=3, seed=1).result(90)
    assert (alone.text, {text.source for text in alone.accepted}) == (
        scene.caption(),
        {"synthetic"},
    )


def test_captions_have_the_words_of_a_caption_sampled_with_their_seed(
    user: Client, picture: Path
) -> None:
    wild: dict[str, Any] = {"temperature": 3.0, "top_p": 0.9}
    result = user.capfilt(picture, WRONG, captions=3, seed=5, **wild).result(90)
    captions = [user.caption(picture, seed=5 + n, **wild).result(90) for n in range(3)]
    synthetic = [*result.accepted, *result.rejected]
    assert {text.text for text in synthetic if text.source == "synthetic"} == set(captions)


def test_capfilt_is_cancelled_and_has_a_deadline(user: Client, picture: Path) -> None:
    long: dict[str, Any] = {"min_new_tokens": 400, "max_new_tokens": 450, "num_beams": 8}
    job = user.capfilt(picture, WRONG, captions=16, temperature=1.0, **long)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result(60)
    late = user.capfilt(picture, WRONG, captions=16, temperature=1.0, deadline_s=0.5, **long)
    with pytest.raises(JobFailed, match="deadline_exceeded"):
        late.result(60)
