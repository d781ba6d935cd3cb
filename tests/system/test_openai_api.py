"""The library `openai`, unmodified, with the real gateway and worker."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import openai
import pytest

from demo.scenes import draw, random_scene
from producer import Client


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    draw(random_scene(Random(5), 2), 128, 128).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def ai(gateway: httpx.Client) -> Iterator[openai.OpenAI]:
    url, key = f"{gateway.base_url}/openai/v1", gateway.headers["Authorization"].split()[1]
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        yield client


def test_a_dialogue_has_the_answers_of_the_client(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    first: list[Any] = [{"type": "image_url", "image_url": {"url": url}}]

    def answer(*messages: Any, **more: Any) -> str | None:
        completion = ai.chat.completions.create(model="blipline", messages=[*messages], **more)
        text: str | None = completion.choices[0].message.content
        return text

    caption = user.caption(picture).result(90)
    assert caption
    assert answer({"role": "user", "content": first}) == caption
    question = "what color is it?"
    opening = {"role": "user", "content": [*first, {"type": "text", "text": question}]}
    first_answer = user.ask(picture, question).result(90)
    assert answer(opening) == first_answer
    turns = (
        opening,
        {"role": "assistant", "content": first_answer},
        {"role": "user", "content": "where?"},
    )
    expected = user.chat(picture, "where?", [(question, first_answer)], max_new_tokens=4).result(90)
    assert answer(*turns, max_tokens=4) == expected
    # The same as a stream of the tokens, whose numbers it has
    stream = ai.chat.completions.create(
        model="blipline",
        messages=[{"role": "user", "content": first}],
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == caption
    usage = chunks[-1].usage
    assert usage is not None
    assert 0 < usage.completion_tokens <= 20
    assert usage.prompt_tokens > 0


def test_embeddings_are_those_of_the_client(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    answer = ai.embeddings.create(model="blipline", input=["a red star", url])
    expected = [user.embed(text="a red star").result(90), user.embed(picture).result(90)]
    for vector, values in zip(answer.data, expected, strict=True):
        assert vector.embedding == pytest.approx(values, abs=1e-6)


def test_a_batch_has_the_answers_of_the_client(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    contents: list[list[Any]] = [[{"type": "image_url", "image_url": {"url": url}}]]
    contents.append([*contents[0], {"type": "text", "text": "what color is it?"}])
    requests = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "blipline", "messages": [{"role": "user", "content": content}]},
        }
        for number, content in enumerate(contents)
    ]
    data = "\n".join(map(json.dumps, requests)).encode()
    file = ai.files.create(file=("requests.jsonl", data), purpose="batch")
    batch = ai.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    deadline = time.monotonic() + 90
    while batch.status == "in_progress" and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = ai.batches.retrieve(batch.id)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.output_file_id is not None
    lines = map(json.loads, ai.files.content(batch.output_file_id).text.splitlines())
    answers = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
    assert answers == [
        user.caption(picture).result(90),
        user.ask(picture, "what color is it?").result(90),
    ]


def test_an_invalid_image_is_an_error(ai: openai.OpenAI) -> None:
    url = "data:image/png;base64," + base64.b64encode(b"no image").decode()
    content: list[Any] = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(
            model="blipline", messages=[{"role": "user", "content": content}]
        )
    assert caught.value.code == "image_invalid"
