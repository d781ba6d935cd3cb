"""Items that choose an adapter, through every way into the system, against peft."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import httpx
import pytest
from celery import Celery
from transformers import Blip2ForConditionalGeneration

from config.settings import DEMO_MODEL
from producer import AsyncClient, Client, JobFailed
from tests.models.adapters import with_adapters
from tests.system import reference
from tests.system.conftest import Stack


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    reference.scene_picture().save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def expected(stack: Stack) -> dict[str, str]:
    """The captions without the adapter and with it."""
    image = reference.scene_picture()
    network = Blip2ForConditionalGeneration.from_pretrained(DEMO_MODEL).eval()
    adapted = with_adapters(network, {"red": stack.adapter})
    texts = {"": reference.caption(image), "red": reference.caption(image, network=adapted)}
    assert texts[""] != texts["red"]
    return texts


async def caption_asynchronously(stack: Stack, picture: bytes) -> str:
    async with AsyncClient(stack.redis_url) as client:
        return await (await client.caption(picture, adapter="red")).result(60)


def test_both_clients_and_batches_and_plain_celery_choose_the_adapter(
    stack: Stack, user: Client, picture: bytes, expected: dict[str, str]
) -> None:
    red, plain = expected["red"], expected[""]
    jobs = [user.caption(picture, adapter="red"), user.caption(picture)]
    assert [job.result(60) for job in jobs] == [red, plain]
    # Again, so that kept answers are read
    assert [user.caption(picture, adapter=name).result(60) for name in ("red", None)] == [
        red,
        plain,
    ]
    assert asyncio.run(caption_asynchronously(stack, picture)) == red
    item: dict[str, Any] = {"image": picture}
    batch = user.submit_batch([item, item | {"adapter": "red"}, item | {"adapter": "no"}])
    results = list(batch.results(60))
    assert [result.text for result in results] == [plain, red, None]
    assert results[2].error is not None
    assert "its adapters are red" in results[2].error.message
    app = Celery(broker=stack.redis_url, backend=stack.redis_url)
    message = {"items": [{"image": user.upload(picture), "adapter": "red"}]}
    sent = app.send_task("blipline.caption", kwargs=message, queue="interactive")
    assert sent.get(60) == [{"text": red}]


def test_http_and_errors_name_the_adapters(
    user: Client, gateway: httpx.Client, picture: bytes, expected: dict[str, str]
) -> None:
    body = {"image": base64.b64encode(picture).decode(), "adapter": "red"}
    wait = {"Prefer": "wait=60"}
    answer = gateway.post("/v1/caption", json=body, headers=wait)
    assert answer.json()["output"]["text"] == expected["red"], answer.text
    query = {"adapter": "red"}
    answer = gateway.post("/v1/caption", params=query, content=picture, headers=wait)
    assert answer.json()["output"]["text"] == expected["red"]
    with pytest.raises(JobFailed, match="its adapters are red"):
        user.caption(picture, adapter="blue").result(60)
