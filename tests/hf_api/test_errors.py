"""Errors as `huggingface_hub` shows them."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis
from huggingface_hub import InferenceClient, InferenceTimeoutError
from huggingface_hub.errors import HfHubHTTPError

from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.key_policy import KeyPolicy
from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.gateway.conftest import Reached, Run
from tests.gateway.fake_worker import Recorder

PNG = b"\x89PNG\r\n\x1a\n the bytes of an image"
BASE64 = base64.b64encode(PNG).decode()


@contextmanager
def refused(status: int, message: str) -> Iterator[None]:
    """Check that the block raises the library's error with a status and a message."""
    with pytest.raises(HfHubHTTPError) as caught:
        yield
    error = caught.value
    assert error.response.status_code == status, error
    assert message in str(error)
    assert error.request_id == error.response.headers["X-Request-Id"]


def test_a_wrong_key_is_a_401(gateway: Reached) -> None:
    stranger = InferenceClient(model=f"{gateway.url}/hf", token="blip_wrong")
    with refused(401, "This API key is not valid"):
        stranger.image_to_text(PNG)


@pytest.mark.parametrize("path", ["hf/text-to-image", "hf/image-to-text/x", "hf/v1/none"])
def test_an_unknown_task_is_a_404(hub: InferenceClient, gateway: Reached, path: str) -> None:
    with refused(404, "There is no task" if path.count("/") == 1 else "404"):
        hub.image_to_text(PNG, model=f"{gateway.url}/{path}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda hub: hub.image_to_text(b""), "The image is empty"),
        (lambda hub: hub.visual_question_answering(PNG, " "), "question=' ': is empty"),
        (lambda hub: hub.visual_question_answering(PNG, "x" * 20_001), "at most 20000 characters"),
        (lambda hub: hub.visual_question_answering(PNG, "?", top_k=0), "top_k: "),
        (lambda hub: hub.zero_shot_image_classification(PNG, ["a", " "]), "candidate_labels.1: "),
        (
            lambda hub: hub.zero_shot_image_classification(PNG, ["a"] * 257),
            "at most 256 items",
        ),
        (
            lambda hub: hub.zero_shot_image_classification(
                PNG, ["a", "b"], hypothesis_template="a photo"
            ),
            "hypothesis_template: ",
        ),
        (lambda hub: hub.feature_extraction(" "), "inputs=' ': is empty"),
        (lambda hub: hub.feature_extraction([]), "inputs: "),
        (lambda hub: hub.feature_extraction(["a", " "]), "inputs.1=' ': is empty"),
        (lambda hub: hub.feature_extraction("a", normalize=False), "normalize: is not supported"),
        (lambda hub: hub.feature_extraction("a", truncate=True), "truncate: is not supported"),
        (lambda hub: hub.feature_extraction("a", dimensions=64), "dimensions: is not supported"),
        (lambda hub: hub.feature_extraction("data:image/png;base64,%"), "base64"),
    ],
    ids=range(14),
)
def test_an_invalid_value_is_a_422_that_names_it(
    hub: InferenceClient, connection: redis.Redis, call: Any, message: str
) -> None:
    with refused(422, message):
        call(hub)
    # No job of the request remains.
    assert connection.zcard(Keys().open) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("", b"{", 400, "The body is not JSON"),
        ("", b'{"inputs": "a", "inputs": "b"}', 400, "inputs"),
        ("", b"{}", 422, "inputs: is missing"),
        ("", {"inputs": "a", "parameters": 5}, 422, "parameters: must be an object"),
        ("", {"inputs": "a", "parameters": {"colour": 1}}, 422, "colour: is not a parameter"),
        (
            "/image-to-text",
            {"inputs": BASE64, "parameters": {"temperature": 99}},
            *(422, "temperature=99: "),
        ),
        (
            "/image-to-text",
            {"inputs": BASE64, "parameters": {"generation_parameters": {"penalty_alpha": 0.6}}},
            *(422, "penalty_alpha: is not supported"),
        ),
        (
            "/image-to-text",
            {"inputs": BASE64, "parameters": {"generation_parameters": 5}},
            *(422, "generation_parameters: must be an object"),
        ),
        ("/image-to-text", {"inputs": 5}, 422, "inputs=5: "),
        ("/image-to-text", {"inputs": "cat.jpg"}, 422, "is not an image reference"),
        ("/visual-question-answering", {"inputs": BASE64}, 422, "inputs: an object"),
        (
            "/visual-question-answering",
            {"inputs": {"image": BASE64, "question": "?", "colour": 1}},
            *(422, "inputs.colour: is unknown"),
        ),
        ("/zero-shot-image-classification", {"inputs": BASE64}, 422, "candidate_labels: "),
        ("/feature-extraction", {"inputs": [1]}, 422, "inputs.0: must be a text"),
        ("", {"inputs": "a", "x": "x" * 2**20}, 413, "A job may have"),
    ],
    ids=range(15),
)
def test_an_invalid_body_is_an_error(
    http: httpx.Client, path: str, body: Any, status: int, message: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = http.post(f"/hf{path}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert message in answer.json()["error"]


def test_a_large_image_in_base64_does_not_count_as_text(
    http: httpx.Client, worker: Recorder
) -> None:
    image = base64.b64encode(PNG + bytes(2**21)).decode()
    root = {"inputs": image, "parameters": {}, "question": "how many?", "image": image}
    assert http.post("/hf", json=root).json() == [{"answer": "answer to how many?"}]


@pytest.mark.parametrize(
    ("code", "status"),
    [("unsupported_task", 422), ("image_invalid", 422), ("cancelled", 409), ("poisoned", 500)],
)
def test_the_error_of_a_job_is_that_of_the_request(
    hub: InferenceClient, worker: Recorder, code: str, status: int
) -> None:
    worker.answer = lambda task, item: {"error": {"code": code, "message": "the reason"}}
    with refused(status, "the reason"):
        hub.feature_extraction(["a", "b", "c"])


def test_a_job_that_is_cancelled_is_a_409(hub: InferenceClient, connection: redis.Redis) -> None:
    def cancel() -> None:
        names: Any = []
        while not names:
            time.sleep(0.02)
            names = connection.zrange(Keys().open, 0, -1)
        Ledger(connection).cancel(names[0].decode())

    thread = threading.Thread(target=cancel)
    thread.start()
    with refused(409, "the job was cancelled"):
        hub.image_to_text(PNG)
    thread.join()


def test_a_deadline_is_a_504(http: httpx.Client, hub: InferenceClient, gateway: Reached) -> None:
    body = {"inputs": BASE64, "parameters": {"deadline_s": 0.1}}
    answer = http.post("/hf/image-to-text", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "deadline_exceeded")
    hasty = InferenceClient(
        model=f"{gateway.url}/hf", token=gateway.keys["acme"], headers={"Prefer": "wait=1"}
    )
    with refused(504, "There was no result within 1 s"):
        hasty.image_to_text(PNG)
    with pytest.raises(InferenceTimeoutError):
        InferenceClient(f"{gateway.url}/hf", token=gateway.keys["acme"], timeout=0.2).image_to_text(
            PNG
        )


def test_limits_are_a_429(run_gateway: Run, connection: redis.Redis) -> None:
    started = run_gateway(BLIPLINE_GATEWAY_RATE="2", BLIPLINE_MAX_QUEUED_INTERACTIVE="1")
    assert started.client().post("/v1/jobs", json={"task": "embed", "text": "a"}).is_success
    hub = InferenceClient(model=f"{started.url}/hf", token=started.keys["acme"])
    with refused(429, "The queue is full"):
        hub.image_to_text(PNG)
    with refused(429, "you have reached your 'minute' rate limit"):
        hub.image_to_text(PNG)


def test_a_key_without_private_images_may_not_name_them(
    gateway: Reached, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme", KeyPolicy(image_prefixes=()))
    answer = httpx.post(
        f"{gateway.url}/hf/image-to-text",
        json={"inputs": "file:cat.jpg"},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert (answer.status_code, answer.json()["error_type"]) == (422, "image_blocked")
    assert answer.headers["X-Error-Message"] == answer.json()["error"]
