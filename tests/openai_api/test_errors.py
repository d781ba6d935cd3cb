"""Errors in OpenAI's form: of parameters, messages, jobs, and the layers before the routes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
import redis

from producer.ledger.keys import Keys
from producer.ledger.ledger import Ledger
from tests.conftest import Finish
from tests.gateway.conftest import Reached, Run

from .conftest import Recorder
from .samples import URL, ask, assistant, image, request_of, text, user

LONG = "x" * 20_001


def open_jobs(connection: redis.Redis) -> list[str]:
    """Return the inner ids of the jobs that have not ended."""
    names: Any = connection.zrange(Keys().open, 0, -1)
    return [name.decode() for name in names]


@pytest.mark.parametrize(
    ("parameters", "code", "param", "message"),
    [
        ({"n": 2}, "invalid_value", "n", "needs a 'temperature'"),
        ({"n": 17, "temperature": 1}, "option_invalid", "n", "less than or equal to 16"),
        ({"stop": [""]}, "invalid_value", "stop", "not empty"),
        ({"stop": [*"abcde"]}, "invalid_value", "stop", "1 to 4"),
        ({"stop": {"a": 1}}, "invalid_type", "stop", "an array of strings"),
        ({"logprobs": 5}, "invalid_type", "logprobs", "expected a boolean"),
        ({"top_logprobs": 3}, "unsupported_value", "top_logprobs", "not supported"),
        ({"frequency_penalty": 0.5}, "unsupported_value", "frequency_penalty", "not supported"),
        ({"logit_bias": {"1": 2}}, "unsupported_value", "logit_bias", "not supported"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            *("unsupported_value", "tools", "not supported"),
        ),
        ({"tool_choice": "required"}, "unsupported_value", "tool_choice", "not supported"),
        (
            {"response_format": {"type": "json_object"}},
            *("unsupported_value", "response_format", "not supported"),
        ),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities", "not supported"),
        ({"extra_body": {"colour": 1}}, "unknown_parameter", "colour", "'colour'"),
        ({"extra_body": {"max_new_tokens": 1}}, "unknown_parameter", "max_new_tokens", "Unknown"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens", "at least 1"),
        ({"max_tokens": "5"}, "invalid_value", "max_tokens", "at least 1"),
        ({"temperature": 0.001}, "option_invalid", "temperature", "temperature=0.001: must be 0"),
        ({"temperature": 11}, "option_invalid", "temperature", "less than or equal to 10"),
        ({"temperature": "hot"}, "option_invalid", "temperature", "valid number"),
        ({"top_p": 0}, "option_invalid", "top_p", "greater than 0"),
        ({"seed": -1}, "option_invalid", "seed", "greater than or equal to 0"),
        ({"extra_body": {"deadline_s": 0}}, "option_invalid", "deadline_s", "greater than 0"),
        ({"stream": "yes"}, "invalid_type", "stream", "expected a boolean"),
        ({"stream_options": 5}, "invalid_type", "stream_options", "expected an object"),
        (
            {"stream_options": {"include_usage": 1}},
            *("invalid_type", "include_usage", "expected a boolean"),
        ),
    ],
)
def test_an_invalid_parameter_is_named(
    ai: openai.OpenAI, parameters: dict[str, Any], code: str, param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ai.chat.completions.create(**ask(**parameters))
    error = caught.value
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")
    assert error.request_id == error.response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("messages", "code", "param", "message"),
    [
        ("hello", "invalid_type", "messages", "expected an array"),
        (None, "missing_required_parameter", "messages", "Missing required"),
        ([], "invalid_value", "messages", "last message"),
        ([5], "invalid_type", "messages[0]", "expected an object"),
        ([user("hello")], "missing_image", "messages", "image_url"),
        ([user(image()), assistant("a cat")], "invalid_value", "messages", "last message"),
        ([assistant("a cat"), user(image())], "invalid_value", "messages[0]", "first message"),
        ([{"role": "user", "content": 5}], "invalid_type", "messages[0].content", "an array"),
        ([user(5)], "invalid_type", "messages[0].content[0]", "expected an object"),
        ([user({"type": "text"})], "invalid_type", "messages[0].content[0].text", "a string"),
        (
            [user({"type": "image_url", "image_url": {}})],
            *("invalid_type", "messages[0].content[0].image_url.url", "a string"),
        ),
        (
            [user({"type": "input_audio"})],
            *("unsupported_value", "messages[0].content[0].type", "input_audio"),
        ),
        (
            [{"role": "system", "content": "Be brief."}, user(image())],
            *("unsupported_value", "messages[0].role", "put them into the question"),
        ),
        (
            [{"role": "developer", "content": [text("x")]}, user(image())],
            *("unsupported_value", "messages[0].role", "developer"),
        ),
        (
            [user(image()), {"role": "tool", "content": "x"}],
            *("unsupported_value", "messages[1].role", "tool"),
        ),
        ([{"content": "x"}], "unsupported_value", "messages[0].role", "None"),
        ([user(image(), image())], "unsupported_value", "messages[0].content", "2 images"),
        (
            [user(image()), {"role": "assistant", "content": [image()]}],
            *("unsupported_value", "messages[1]", "may contain images"),
        ),
        (
            [user(image()), {"role": "assistant", "tool_calls": [{}]}],
            *("unsupported_value", "messages[1]", "tools"),
        ),
        ([user(image(), text(LONG))], "option_invalid", "messages", "at most 20000 characters"),
        ([user(image("cat.jpg"))], "image_invalid", "messages", "is not an image reference"),
        ([user(image("data:image/png;base64,%"))], "image_invalid", "messages", "base64"),
        ([user(image("data:text/html,x"))], "image_invalid", "messages", "must be data:image"),
        ([user(image(""))], "missing_image", "messages", "image_url"),
    ],
)
def test_an_invalid_message_is_named(
    raw: Callable[..., httpx.Response], messages: Any, code: str, param: str, message: str
) -> None:
    body = {"model": "blipline", **({} if messages is None else {"messages": messages})}
    answer = raw("chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_request"),
        ({"content": b"\xff", "headers": {"Content-Type": "application/json"}}, 400, "bad_request"),
        (
            {"content": b"[" * 99_999, "headers": {"Content-Type": "application/json"}},
            *(400, "bad_request"),
        ),
        (
            {"content": b'{"n": NaN}', "headers": {"Content-Type": "application/json"}},
            *(400, "bad_request"),
        ),
        (
            {"content": b'{"n": 1, "n": 2}', "headers": {"Content-Type": "application/json"}},
            *(400, "bad_request"),
        ),
        ({"json": []}, 400, "bad_request"),
        ({"json": {}}, 400, "missing_required_parameter"),
        (
            {
                "content": json.dumps(request_of(user("\ud800"), user(image()))),
                "headers": {"Content-Type": "application/json"},
            },
            *(400, "bad_request"),
        ),
        ({"json": {"model": "gpt-4o"}}, 404, "model_not_found"),
        ({"json": {"model": ["blipline"]}}, 404, "model_not_found"),
        ({"content": b"{}"}, 415, "unsupported_media_type"),
        ({"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"),
        ({"json": ask(user="x" * 2**21)}, 413, "body_too_large"),
    ],
    ids=range(13),
)
def test_an_invalid_body_is_an_error(
    raw: Callable[..., httpx.Response], request_: dict[str, Any], status: int, code: str
) -> None:
    answer = raw("chat/completions", **request_)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"


def test_a_repeated_image_does_not_count_as_text(
    raw: Callable[..., httpx.Response], worker: Recorder
) -> None:
    picture = image("data:image/png;base64," + "A" * 2**20)
    messages = [user(picture), assistant("a"), user(text("b"), picture)]
    assert raw("chat/completions", json=request_of(*messages)).status_code == 200


def test_errors_before_the_routes_have_the_same_form(gateway: Reached) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key="blip_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            stranger.models.list()
        assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")
        assert caught.value.response.headers["WWW-Authenticate"].startswith("Bearer")
    http = gateway.client()
    for method, path, status in (
        ("POST", "/openai/v1/images/generations", 404),
        ("GET", "/openai", 404),
        ("GET", "/openai/v1/chat/completions", 405),
    ):
        answer = http.request(method, path)
        assert answer.status_code == status
        if path != "/openai":
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert gateway.client(None).get("/openai/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("code", "status", "retried"),
    [
        ("image_unreachable", 400, False),
        ("unsupported_task", 400, False),
        ("image_too_large", 413, False),
        ("cancelled", 409, False),
        ("deadline_exceeded", 504, False),
        ("poisoned", 500, False),
        ("engine_unavailable", 503, True),
    ],
)
def test_the_error_of_a_job_is_that_of_the_request(
    gateway: Reached, worker: Recorder, code: str, status: int, retried: bool
) -> None:
    worker.answer = lambda task, item: {"error": {"code": code, "message": "the reason"}}
    base_url, key = f"{gateway.url}/openai/v1", gateway.keys["acme"]
    with (
        openai.OpenAI(base_url=base_url, api_key=key, max_retries=1) as client,
        pytest.raises(openai.APIStatusError, match="the reason") as caught,
    ):
        client.chat.completions.create(**ask(stream=True))
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert len(worker.jobs) == 1 + retried


def test_a_cancelled_job_is_an_error(
    ai: openai.OpenAI, http: httpx.Client, connection: redis.Redis
) -> None:
    def cancel() -> None:
        while not (ids := open_jobs(connection)):
            time.sleep(0.01)
        http.delete(f"/v1/jobs/{ids[0].removeprefix('acme.job.')}")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(openai.ConflictError) as caught:
        ai.chat.completions.create(**ask())
    thread.join()
    assert caught.value.code == "cancelled"


def test_a_job_past_its_deadline_is_an_error(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ai.chat.completions.create(**ask(extra_body={"deadline_s": 0.1}))
    assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


def test_limits_are_errors(run_gateway: Run, connection: redis.Redis) -> None:
    started = run_gateway(
        BLIPLINE_GATEWAY_MAX_IMAGE_MB="1",
        BLIPLINE_GATEWAY_MAX_WAIT_S="1",
        BLIPLINE_GATEWAY_RATE="10",
    )
    http = started.client()

    def error_of(*messages: dict[str, Any]) -> tuple[int, str]:
        answer = http.post("/openai/v1/chat/completions", json=request_of(*messages))
        return answer.status_code, answer.json()["error"]["code"]

    picture = image("data:image/png;base64," + "A" * 2**21)
    assert error_of(user(picture, picture)) == (413, "body_too_large")
    larger = image("data:image/png;base64," + "A" * (2**20 // 3 * 4 + 8))
    assert error_of(user(larger)) == (413, "image_too_large")
    # Without a worker, the job is cancelled.
    assert error_of(user(image())) == (504, "wait_timeout")
    assert connection.zcard(Keys().open) == 0
    with openai.OpenAI(
        base_url=f"{started.url}/openai/v1", api_key=started.keys["acme"], max_retries=0
    ) as client:
        statuses = [error_of(user(larger)) for _ in range(8)]
        assert statuses[-1] == (429, "rate_limit_exceeded")
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert int(caught.value.response.headers["Retry-After"]) > 0


def test_the_library_retries_while_the_queue_is_full(
    run_gateway: Run, connection: redis.Redis, finish: Finish
) -> None:
    started = run_gateway(BLIPLINE_MAX_QUEUED_INTERACTIVE="1")
    job_id = started.client().post("/v1/jobs", json={"task": "caption", "image": URL}).json()["id"]
    base_url, key = f"{started.url}/openai/v1", started.keys["acme"]
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**ask())
        assert caught.value.code == "queue_full"

    async def run() -> str | None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=3) as client:
            waiting = asyncio.create_task(client.chat.completions.create(**ask()))
            await asyncio.sleep(0.5)
            finish(f"acme.job.{job_id}", [{"text": "a cat"}])
            while not (ids := open_jobs(connection)):
                await asyncio.sleep(0.05)
            finish(ids[0], [{"text": "two"}])
            text: str | None = (await waiting).choices[0].message.content
            return text

    assert asyncio.run(run()) == "two"
    assert Ledger(connection).depth().running_jobs == 0
