"""The library `openai`, unmodified, with the real gateway and worker."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import httpx
import openai
import pytest

from demo.scenes import draw, random_scene
from producer import Client

from .conftest import LONG

#: Long texts as parameters of a completion.
MAX_TOKENS: Final = {"max_tokens": LONG["max_new_tokens"]}
LONG_BODY: Final = {**MAX_TOKENS, "min_new_tokens": LONG["min_new_tokens"]}


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


def request(picture: bytes, **parameters: Any) -> dict[str, Any]:
    """Return the parameters of the caption of a picture."""
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {
        "model": "blipline",
        "messages": [{"role": "user", "content": content}],
        **parameters,
    }


def long_request(picture: bytes, **more: Any) -> dict[str, Any]:
    """Return the parameters of a caption that takes a while, unless it has been computed."""
    extra = {"min_new_tokens": LONG["min_new_tokens"], **more}
    return request(picture, **MAX_TOKENS, extra_body=extra)


def start_batch(ai: openai.OpenAI, bodies: Sequence[Mapping[str, Any]]) -> Any:
    """Create a batch of completions, whose custom ids count from 0."""
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = ai.files.create(file=("requests.jsonl", data), purpose="batch")
    return ai.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def ended(ai: openai.OpenAI, batch: Any) -> Any:
    """Return a batch once it has ended."""
    deadline = time.monotonic() + 90
    while batch.status in ("in_progress", "cancelling") and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = ai.batches.retrieve(batch.id)
    return batch


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


def test_a_stream_has_the_parts_of_the_text_and_its_numbers(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    stream = ai.chat.completions.create(
        **long_request(picture), stream=True, stream_options={"include_usage": True}, logprobs=True
    )
    chunks = list(stream)
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    texts = [part for part in parts if part]
    job = user.caption(picture, output_scores=True, **LONG)
    assert len(texts) > 1
    assert "".join(texts) == job.result(90)
    (scores,) = [c.choices[0].logprobs for c in chunks if c.choices and c.choices[0].logprobs]
    (sequence,) = job.with_sequences().result(90)
    expected = [token.logprob for token in sequence.tokens]
    assert [token.logprob for token in scores.content] == pytest.approx(expected, abs=1e-4)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == LONG["max_new_tokens"]
    assert usage.prompt_tokens > 0


def test_choices_of_a_seed_have_the_texts_of_the_client(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    def texts(seed: int) -> list[str]:
        completion = ai.chat.completions.create(**request(picture, n=3, temperature=2, seed=seed))
        assert [choice.index for choice in completion.choices] == [0, 1, 2]
        return [choice.message.content for choice in completion.choices]

    seeds = [user.caption(picture, temperature=2.0, seed=7 + n) for n in range(3)]
    first = texts(7)
    assert first == [job.result(90) for job in seeds]
    assert texts(7) == first
    assert texts(70) != first
    assert len(set(first)) > 1


def test_a_choice_ends_before_a_stop(ai: openai.OpenAI, user: Client, picture: bytes) -> None:
    caption = user.caption(picture).result(90)
    assert caption
    word = caption.split()[2]
    for stop in (word, ["not in the caption", word]):
        (choice,) = ai.chat.completions.create(**request(picture, stop=stop)).choices
        assert choice.message.content == caption.partition(word)[0] != ""
        assert choice.finish_reason == "stop"
        chunks = ai.chat.completions.create(**request(picture, stop=stop), stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(parts) == choice.message.content


def test_each_token_has_its_log_probability(
    ai: openai.OpenAI, user: Client, picture: bytes
) -> None:
    (sequence,) = user.caption(picture, output_scores=True).with_sequences().result(90)
    expected = [token.logprob for token in sequence.tokens]
    for length in (3, 20):
        completion = ai.chat.completions.create(
            **request(picture, logprobs=True, max_tokens=length)
        )
        (choice,), usage = completion.choices, completion.usage
        tokens, ends = choice.logprobs.content, choice.finish_reason == "stop"
        # The end token belongs to the usage, but not to the text.
        assert len(tokens) + ends == usage.completion_tokens <= length
        assert "".join(token.token for token in tokens).strip() == choice.message.content
        values = [token.logprob for token in tokens]
        assert all(math.isfinite(value) and value <= 0 for value in values)
        assert values == pytest.approx(expected[: len(values)], abs=1e-4)
        assert [bytes(token.bytes).decode() for token in tokens] == [t.token for t in tokens]


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
    bodies = [
        {"model": "blipline", "messages": [{"role": "user", "content": content}]}
        for content in contents
    ]
    batch = ended(ai, start_batch(ai, bodies))
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.output_file_id is not None
    lines = map(json.loads, ai.files.content(batch.output_file_id).text.splitlines())
    answers = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
    assert answers == [
        user.caption(picture).result(90),
        user.ask(picture, "what color is it?").result(90),
    ]


def test_a_cancelled_batch_names_the_requests_without_an_answer(
    ai: openai.OpenAI, picture: bytes
) -> None:
    batch = start_batch(
        ai, [request(picture, **LONG_BODY, temperature=1, seed=n) for n in range(100)]
    )
    ai.batches.cancel(batch.id)
    batch = ended(ai, batch)
    assert batch.status == "cancelled"
    lines = map(json.loads, ai.files.content(batch.error_file_id).text.splitlines())
    errors = {line["custom_id"]: line["error"]["code"] for line in lines}
    assert errors["99"] == "batch_cancelled"
    assert set(errors.values()) == {"batch_cancelled"}
    assert len(errors) + batch.request_counts.completed == 100


def test_an_invalid_image_is_an_error(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(**request(b"no image"))
    assert caught.value.code == "image_invalid"


def test_a_request_with_an_error_is_refused(
    ai: openai.OpenAI, limited_key: str, picture: bytes
) -> None:
    create = ai.chat.completions.create
    unknown = request(picture, temperature=99)
    with pytest.raises(openai.AuthenticationError) as wrong_key:
        ai.with_options(api_key="blip_wrong").chat.completions.create(**request(picture))
    assert wrong_key.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as wrong_model:
        create(**{**request(picture), "model": "gpt-4o"})
    assert wrong_model.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as wrong_file:
        ai.files.retrieve("file-unknown")
    assert wrong_file.value.code == "file_not_found"
    with pytest.raises(openai.BadRequestError) as wrong_option:
        create(**unknown)
    assert (wrong_option.value.code, wrong_option.value.param) == ("option_invalid", "temperature")
    limited = ai.with_options(api_key=limited_key)
    assert limited.chat.completions.create(**request(picture)).choices[0].message.content
    with pytest.raises(openai.RateLimitError) as too_many:
        limited.chat.completions.create(**request(picture))
    assert too_many.value.code == "rate_limit_exceeded"
    assert int(too_many.value.response.headers["Retry-After"]) > 0


def test_a_request_past_its_deadline_is_an_error(ai: openai.OpenAI, picture: bytes) -> None:
    for stream in (False, True):
        late = long_request(picture, deadline_s=0.01, temperature=1, seed=1)
        with pytest.raises(openai.InternalServerError) as caught:
            ai.chat.completions.create(**late, stream=stream)
        assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


def test_a_request_that_is_cancelled_is_an_error(
    ai: openai.OpenAI, gateway: httpx.Client, picture: bytes
) -> None:
    name = {"status": "running"}

    def cancel() -> None:
        deadline = time.monotonic() + 60
        while not (jobs := gateway.get("/v1/jobs", params=name).json()["data"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        gateway.delete(f"/v1/jobs/{jobs[0]['id']}")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(openai.ConflictError) as caught:
        ai.chat.completions.create(**long_request(picture, temperature=1, seed=2))
    thread.join()
    assert caught.value.code == "cancelled"
