"""Client libraries of other APIs, unmodified, against the real gateway and a real worker."""

from __future__ import annotations

import io
from random import Random
from typing import Final

import httpx
import pytest
from huggingface_hub import InferenceClient
from PIL import Image
from replicate.client import Client as ReplicateClient

from demo.scenes import draw, random_scene
from producer import Client

LABELS: Final = ["a red circle on a grey background", "a blue star on a pink background"]


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    image: Image.Image = draw(random_scene(Random(5)), 128, 96)
    image.save(file, "PNG")
    return file.getvalue()


def test_huggingface_hub_has_the_answers_of_the_client(
    user: Client, gateway: httpx.Client, picture: bytes
) -> None:
    key = gateway.headers["Authorization"].removeprefix("Bearer ")
    hub = InferenceClient(model=f"{gateway.base_url}/hf", token=key)
    assert hub.image_to_text(picture).generated_text == user.caption(picture).result(60)
    (answer,) = hub.visual_question_answering(picture, "what color is it?")
    assert answer.answer == user.ask(picture, "what color is it?").result(60)
    vectors = hub.feature_extraction(LABELS)
    for vector, label in zip(vectors, LABELS, strict=True):
        assert vector.tolist() == pytest.approx(user.embed(text=label).result(60), abs=1e-6)


def test_labels_have_the_odds_of_their_matches(
    user: Client, gateway: httpx.Client, picture: bytes
) -> None:
    key = gateway.headers["Authorization"].removeprefix("Bearer ")
    hub = InferenceClient(model=f"{gateway.base_url}/hf", token=key)
    elements = hub.zero_shot_image_classification(picture, LABELS, hypothesis_template="{}")
    odds = {
        match.text: match.probability / (1 - match.probability)
        for match in user.match(picture, LABELS).result(60)
    }
    assert {element.label: element.score for element in elements} == pytest.approx(
        {label: odds[label] / sum(odds.values()) for label in LABELS}, abs=1e-6
    )


def test_replicate_has_the_answers_of_the_client(
    user: Client, gateway: httpx.Client, picture: bytes
) -> None:
    key = gateway.headers["Authorization"].removeprefix("Bearer ")
    api = ReplicateClient(key, base_url=f"{gateway.base_url}/replicate")
    question = "what color is it?"
    output = api.run("blipline/ask", input={"image": io.BytesIO(picture), "question": question})
    assert output == user.ask(picture, question).result(60)
    api._client.close()
