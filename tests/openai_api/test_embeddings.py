"""Embeddings and models with the library `openai`, unmodified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any, Final

import httpx
import openai
import pytest
import redis

from producer.ledger.keys import Keys
from tests.gateway.conftest import Reached

from .conftest import Recorder

PNG: Final = b"\x89PNG\r\n\x1a\n the bytes of an image"
BLOB: Final = f"blob:{hashlib.sha256(PNG).hexdigest()}"
DATA_URL: Final = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
#: A value that 32 bits cannot represent exactly.
VECTOR: Final = [0.6, -0.8, 0.1]


def embed(task: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return a vector whose last value is the length of the text."""
    return {"embedding": [*VECTOR[:2], len(item.get("text", "")) / 10]}


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_inputs_become_vectors_in_their_order(
    ai: openai.OpenAI, worker: Recorder, encoding: Any
) -> None:
    worker.answer = embed
    inputs = ["a cat", "a", DATA_URL, "https://example.com/is-a-text"]
    more = {} if encoding is None else {"encoding_format": encoding}
    answer = ai.embeddings.create(model="blipline", input=inputs, **more)
    assert sorted(map(str, worker.jobs)) == sorted(
        str(("embed", item))
        for item in (
            {"text": "a cat"},
            {"text": "a"},
            {"image": BLOB},
            {"text": "https://example.com/is-a-text"},
        )
    )
    assert (answer.object, answer.model, answer.usage.total_tokens) == ("list", "blipline", 0)
    assert [vector.index for vector in answer.data] == [0, 1, 2, 3]
    if encoding == "base64":
        floats = [base64.b64decode(str(vector.embedding)) for vector in answer.data]
        assert [len(data) for data in floats] == [12] * 4
    else:
        last = [vector.embedding[2] for vector in answer.data]
        assert last == pytest.approx([0.5, 0.1, 0.0, 2.9])


def test_one_text_is_an_input(gateway: Reached, worker: Recorder) -> None:
    worker.answer = embed

    async def run() -> list[float]:
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/openai/v1", api_key=gateway.keys["acme"]
        ) as client:
            answer = await client.embeddings.create(model="blipline", input="a cat")
            vector: list[float] = answer.data[0].embedding
            return vector

    assert asyncio.run(run()) == pytest.approx([0.6, -0.8, 0.5])


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": 5}, "invalid_type", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": ["a"] * 257}, "invalid_value", "input"),
        ({"input": [1, 2]}, "invalid_type", "input[0]"),
        ({"input": ["a", [1]]}, "invalid_type", "input[1]"),
        ({"input": ["a", " "]}, "option_invalid", "input[1]"),
        ({"input": ["a", "x" * 20_001]}, "option_invalid", "input[1]"),
        ({"input": ["a", "data:image/png;base64,%"]}, "image_invalid", "input[1]"),
        ({"input": "a", "dimensions": 64}, "unsupported_value", "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "truncate": True}, "unknown_parameter", "truncate"),
    ],
)
def test_an_invalid_parameter_is_named(
    raw: Callable[..., httpx.Response],
    connection: redis.Redis,
    parameters: dict[str, Any],
    code: str,
    param: str,
) -> None:
    answer = raw("embeddings", json={"model": "blipline", **parameters})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    # No job of the request remains.
    assert connection.zcard(Keys().open) == 0


def test_without_a_matching_model_the_error_names_the_task(
    ai: openai.OpenAI, worker: Recorder
) -> None:
    message = "the model does not support embed"
    worker.answer = lambda task, item: {"error": {"code": "unsupported_task", "message": message}}
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ai.embeddings.create(model="blipline", input=["a", "b", "c"])
    assert caught.value.code == "unsupported_task"


def test_the_models_are_listed(ai: openai.OpenAI) -> None:
    (model,) = ai.models.list()
    assert (model.id, model.object, model.owned_by) == ("blipline", "model", "blipline")
    assert ai.models.retrieve("blipline") == model
    for name in ("gpt-4o", "Salesforce/blip2-opt-2.7b"):
        with pytest.raises(openai.NotFoundError) as caught:
            ai.models.retrieve(name)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
