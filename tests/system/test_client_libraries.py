"""Client libraries of other APIs, unmodified, against the real gateway and a real worker."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from replicate.client import Client as ReplicateClient
from replicate.exceptions import ModelError, ReplicateError

from demo.scenes import draw, random_scene
from producer import Client

from .conftest import LONG

LABELS: Final = ["a red circle on a grey background", "a blue star on a pink background"]


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    image: Image.Image = draw(random_scene(Random(5)), 128, 96)
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def hub(gateway: httpx.Client) -> InferenceClient:
    return hub_of(gateway, gateway.headers["Authorization"].removeprefix("Bearer "))


def hub_of(
    gateway: httpx.Client, key: str, path: str = "/hf", headers: dict[str, str] | None = None
) -> InferenceClient:
    """Return a client of the Hugging Face API with a key."""
    return InferenceClient(model=f"{gateway.base_url}{path}", token=key, headers=headers)


@pytest.fixture
def replicate_of(gateway: httpx.Client) -> Iterator[Callable[[str], ReplicateClient]]:
    """Return a function that creates a client of the Replicate API with a key."""
    clients = []

    def create(key: str) -> ReplicateClient:
        clients.append(ReplicateClient(key, base_url=f"{gateway.base_url}/replicate"))
        clients[-1].poll_interval = 0.05
        return clients[-1]

    yield create
    for client in clients:
        client._client.close()


@pytest.fixture
def api(gateway: httpx.Client, replicate_of: Callable[[str], ReplicateClient]) -> ReplicateClient:
    return replicate_of(gateway.headers["Authorization"].removeprefix("Bearer "))


def test_huggingface_hub_has_the_answers_of_the_client(
    user: Client, hub: InferenceClient, picture: bytes
) -> None:
    assert hub.image_to_text(picture).generated_text == user.caption(picture).result(60)
    (answer,) = hub.visual_question_answering(picture, "what color is it?")
    assert answer.answer == user.ask(picture, "what color is it?").result(60)
    vectors = hub.feature_extraction(LABELS)
    for vector, label in zip(vectors, LABELS, strict=True):
        assert vector.tolist() == pytest.approx(user.embed(text=label).result(60), abs=1e-6)


def test_labels_have_the_odds_of_their_matches(
    user: Client, hub: InferenceClient, picture: bytes
) -> None:
    elements = hub.zero_shot_image_classification(picture, LABELS, hypothesis_template="{}")
    odds = {
        match.text: match.probability / (1 - match.probability)
        for match in user.match(picture, LABELS).result(60)
    }
    assert {element.label: element.score for element in elements} == pytest.approx(
        {label: odds[label] / sum(odds.values()) for label in LABELS}, abs=1e-6
    )


def test_huggingface_hub_raises_errors_by_status(
    gateway: httpx.Client, hub: InferenceClient, limited_key: str, picture: bytes
) -> None:
    key = gateway.headers["Authorization"].removeprefix("Bearer ")
    limited = hub_of(gateway, limited_key)
    assert limited.image_to_text(picture).generated_text
    hasty = hub_of(gateway, key, headers={"Prefer": "wait=0"})
    calls: list[tuple[Callable[[], Any], int, str]] = [
        (lambda: hub_of(gateway, "blip_wrong").image_to_text(picture), 401, "unauthorized"),
        (lambda: hub_of(gateway, key, "/hf/paint").image_to_text(picture), 404, "not_found"),
        (lambda: hub.image_to_text(b"no image"), 422, "image_invalid"),
        (lambda: hub.visual_question_answering(picture, " "), 422, "option_invalid"),
        (lambda: hub.feature_extraction("a cat", normalize=False), 422, "option_invalid"),
        (lambda: limited.image_to_text(picture), 429, "rate_limited"),
        (lambda: hasty.visual_question_answering(picture, "how late?"), 504, "wait_timeout"),
    ]
    for call, status, code in calls:
        with pytest.raises(HfHubHTTPError) as caught:
            call()
        response = caught.value.response
        assert (response.status_code, response.json()["error_type"]) == (status, code)
        assert response.json()["error"] in str(caught.value)


@pytest.mark.parametrize("strategy", ["url", "base64"])
def test_replicate_has_the_answers_of_the_client(
    user: Client, api: ReplicateClient, picture: bytes, strategy: Any
) -> None:
    question = "what color is it?"
    given = {"image": io.BytesIO(picture), "question": question}
    output = api.run("blipline/ask", input=given, file_encoding_strategy=strategy)
    assert output == user.ask(picture, question).result(60)


def test_a_prediction_is_created_awaited_and_read(
    user: Client, api: ReplicateClient, picture: bytes
) -> None:
    given = {"image": io.BytesIO(picture)}
    prediction = api.models.predictions.create("blipline/caption", input=given)
    prediction.wait()
    read = api.predictions.get(prediction.id)
    for shown in (prediction, read):
        assert (shown.status, shown.error) == ("succeeded", None)
        assert shown.output == user.caption(picture).result(60)


def test_a_prediction_is_cancelled(api: ReplicateClient, picture: bytes) -> None:
    given = {"image": io.BytesIO(picture), **LONG}
    prediction = api.models.predictions.create("blipline/caption", input=given)
    assert api.predictions.cancel(prediction.id).status == "canceled"
    read = api.predictions.get(prediction.id)
    assert (read.status, read.output) == ("canceled", None)


def test_replicate_raises_errors_by_status(
    api: ReplicateClient,
    replicate_of: Callable[[str], ReplicateClient],
    limited_key: str,
    picture: bytes,
) -> None:
    def caption(client: ReplicateClient, data: bytes = picture, **options: Any) -> Any:
        return client.run("blipline/caption", input={"image": io.BytesIO(data), **options})

    limited = replicate_of(limited_key)
    with pytest.raises(ReplicateError):
        limited.predictions.get("none")
    refused: list[tuple[Callable[[], Any], int, str]] = [
        (lambda: caption(replicate_of("blip_wrong")), 401, "key"),
        (lambda: api.run("blipline/paint", input={}), 404, "no model"),
        (lambda: api.predictions.get("none"), 404, "no job"),
        (lambda: caption(api, temperature=99), 422, "input.temperature"),
        (lambda: caption(limited), 429, ""),
    ]
    for call, status, detail in refused:
        with pytest.raises(ReplicateError) as error:
            call()
        assert error.value.status == status
        assert detail in str(error.value.detail)
    for data, options, code in (
        (b"no image", {}, "image_invalid"),
        (picture, {**LONG, "deadline_s": 0.01}, "deadline_exceeded"),
    ):
        with pytest.raises(ModelError, match=code) as failed:
            caption(api, data, **options)
        assert failed.value.prediction.status == "failed"
