"""Predictions with the library `replicate`, unmodified."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from replicate.client import Client as ReplicateClient
from replicate.exceptions import ModelError, ReplicateError

from demo.stack import ROOT
from producer.ledger.keys import Keys
from tests.gateway.conftest import Reached, Run
from tests.gateway.fake_worker import Recorder, output_of

PNG: Final = b"\x89PNG\r\n\x1a\n the bytes of an image"
BLOB: Final = f"blob:{hashlib.sha256(PNG).hexdigest()}"
URL: Final = "https://images.example.com/cat.jpg"
GUIDE: Final = (ROOT / "docs" / "clients.md").read_text().partition("## Replicate")[2]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


def closed(api: ReplicateClient) -> None:
    api._client.close()


@pytest.mark.parametrize("strategy", ["url", "base64"])
def test_run_uploads_the_image_and_returns_the_text(
    api: ReplicateClient, worker: Recorder, picture: Path, strategy: Any
) -> None:
    given = {"image": picture, "question": "how many?", "max_new_tokens": 5}
    output = api.run("blipline/ask", input=given, file_encoding_strategy=strategy)
    assert output == "answer to how many?"
    assert worker.jobs == [("vqa", {"image": BLOB, "question": "how many?"})]
    assert worker.options[0]["max_new_tokens"] == 5
    closed(api)


@pytest.mark.parametrize("version", ["match", "blipline/match"])
def test_a_prediction_is_created_by_its_version_and_awaited(
    api: ReplicateClient, worker: Recorder, version: str
) -> None:
    worker.answer = output_of
    given = {"image": URL, "texts": ["a", "b"]}
    prediction = api.predictions.create(version=version, input=given)
    assert (prediction.status, prediction.input) == ("starting", given)
    prediction.wait()
    assert (prediction.status, prediction.model) == ("succeeded", "blipline/match")
    assert prediction.output == output_of("match", {})
    assert prediction.error is None
    assert (prediction.created_at or "") < (prediction.completed_at or "")
    closed(api)


def test_an_asynchronous_run_has_the_output(gateway: Reached, worker: Recorder) -> None:
    worker.answer = output_of

    async def run() -> Any:
        api = ReplicateClient(gateway.keys["acme"], base_url=f"{gateway.url}/replicate")
        output = await api.async_run("blipline/caption", input={"image": URL})
        await api._async_client.aclose()
        return output

    assert asyncio.run(run()) == "a cat"


def test_a_prediction_is_cancelled(api: ReplicateClient, connection: redis.Redis) -> None:
    prediction = api.models.predictions.create("blipline/caption", input={"image": URL})
    prediction.cancel()
    assert prediction.status == "canceled"
    assert connection.zcard(Keys().open) == 0
    assert api.predictions.get(prediction.id).status == "canceled"
    closed(api)


def test_a_wait_that_ends_early_leaves_the_prediction_starting(api: ReplicateClient) -> None:
    # The library polls such a prediction, and takes any other status for the end.
    prediction = api.predictions.create(version="caption", input={"image": URL}, wait=1)
    assert prediction.status == "starting"
    prediction.cancel()
    closed(api)


def test_a_failed_job_is_the_error_of_the_model(api: ReplicateClient, worker: Recorder) -> None:
    worker.answer = lambda task, item: {"error": {"code": "image_invalid", "message": "no image"}}
    with pytest.raises(ModelError, match="image_invalid: no image") as caught:
        api.run("blipline/caption", input={"image": URL})
    assert caught.value.prediction.status == "failed"
    closed(api)


def test_a_deadline_is_an_error_of_the_model(api: ReplicateClient) -> None:
    with pytest.raises(ModelError, match="deadline_exceeded"):
        api.run("blipline/caption", input={"image": URL, "deadline_s": 0.1})
    closed(api)


@pytest.mark.parametrize(
    ("call", "status", "detail"),
    [
        (lambda api: api.run("blipline/caption", input={}), 422, "input.image"),
        (
            lambda api: api.run("blipline/ask", input={"image": URL, "question": " "}),
            *(422, "input.question"),
        ),
        (
            lambda api: api.run("blipline/caption", input={"image": URL, "temperature": 99}),
            *(422, "input.temperature"),
        ),
        (
            lambda api: api.run("blipline/caption", input={"image": URL, "colour": 1}),
            *(422, "input.colour"),
        ),
        (lambda api: api.run("blipline/paint", input={"image": URL}), 404, "no model"),
        (lambda api: api.run("salesforce/blip", input={"image": URL}), 404, "no model"),
        (lambda api: api.predictions.get("none"), 404, "no job"),
        (lambda api: api.predictions.cancel("none"), 404, "no job"),
        (
            lambda api: api.predictions.create(
                version="caption", input={}, webhook="http://x.test"
            ),
            *(422, "webhook: is not supported"),
        ),
        (lambda api: api.models.list(), 404, "Not found"),
    ],
    ids=range(10),
)
def test_errors_name_their_cause(
    api: ReplicateClient, call: Callable[[Any], Any], status: int, detail: str
) -> None:
    with pytest.raises(ReplicateError) as caught:
        call(api)
    assert caught.value.status == status
    assert detail in str(caught.value.detail)
    closed(api)


def test_keys_and_limits_are_those_of_the_gateway(run_gateway: Run) -> None:
    started = run_gateway(BLIPLINE_GATEWAY_RATE="1")
    for key, status in (
        ("blip_wrong", 401),
        (started.keys["acme"], 422),
        (started.keys["acme"], 429),
    ):
        api = ReplicateClient(key, base_url=f"{started.url}/replicate")
        with pytest.raises(ReplicateError) as caught:
            api.run("blipline/caption", input={})
        assert caught.value.status == status
        closed(api)


def test_the_example_of_the_guide_runs(
    gateway: Reached,
    worker: Recorder,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture.rename(picture.parent / "cat.jpg")
    monkeypatch.chdir(picture.parent)
    (example, *_) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    program = example.replace("http://127.0.0.1:8000", gateway.url)
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPLICATE_POLL_INTERVAL", "0.05")
        exec(program.replace("blip_…", gateway.keys["acme"]), names)
    closed(names["client"])
    assert capsys.readouterr().out.startswith("answer to what color is it?\n")
