"""Chat completions with the library `openai`, unmodified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
from collections.abc import Callable
from typing import Any, Final

import httpx
import openai
import pytest

from producer.openai_api.choices import ChoiceFormat
from tests.gateway.conftest import Reached

from .conftest import Recorder
from .samples import URL, ask, assistant, image, request_of, text, user

PNG: Final = b"\x89PNG\r\n\x1a\n the bytes of an image"
BLOB: Final = f"blob:{hashlib.sha256(PNG).hexdigest()}"
DATA_URL: Final = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
OTHER_URL: Final = "https://images.example.com/dog.jpg"


def turn(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


#: Messages, and the task and the item that the worker receives.
DIALOGUES: Final[list[tuple[list[dict[str, Any]], str, dict[str, Any]]]] = [
    ([user(image())], "caption", {"image": URL}),
    ([user(text("  "), image())], "caption", {"image": URL}),
    ([user(text("how many?"), image())], "vqa", {"image": URL, "question": "how many?"}),
    ([user(image(DATA_URL), text("how many?"))], "vqa", {"image": BLOB, "question": "how many?"}),
    ([user(image()), user("how"), user("many?")], "vqa", {"image": URL, "question": "how many?"}),
    ([user("how many?"), user(image())], "vqa", {"image": URL, "question": "how many?"}),
    (
        [user(text("what?"), image()), assistant("a cat"), user("which color?")],
        "chat",
        {"image": URL, "question": "which color?", "history": [turn("what?", "a cat")]},
    ),
    (
        [user(image()), assistant([text("a cat")]), user(text("which color?"))],
        "chat",
        {"image": URL, "question": "which color?", "history": [turn("", "a cat")]},
    ),
    # The same image in each message, as clients without a state send it.
    (
        [user(text("a"), image()), assistant("b"), user(text("c"), image())],
        "chat",
        {"image": URL, "question": "c", "history": [turn("a", "b")]},
    ),
    # The newest image decides, and earlier turns are about another one.
    (
        [user(text("a"), image(OTHER_URL)), assistant("b"), user(text("c"), image())],
        "vqa",
        {"image": URL, "question": "c"},
    ),
    (
        [user("hello"), assistant("hi"), user(text("c"), image())],
        "vqa",
        {"image": URL, "question": "c"},
    ),
    (
        [{"role": "system", "content": ""}, user(text("a"), {**image(), "image_url": URL})],
        "vqa",
        {"image": URL, "question": "a"},
    ),
]


@pytest.mark.parametrize(("messages", "task", "item"), DIALOGUES)
def test_messages_become_a_task(
    ai: openai.OpenAI,
    worker: Recorder,
    messages: list[Any],
    task: str,
    item: dict[str, Any],
) -> None:
    completion = ai.chat.completions.create(model="blipline", messages=messages)
    assert worker.jobs == [(task, item)]
    assert completion.choices[0].message.content == f"answer to {item.get('question', '')}"


def test_an_adapter_is_an_extension(ai: openai.OpenAI, worker: Recorder) -> None:
    ai.chat.completions.create(**ask(extra_body={"adapter": "birds"}))
    ((_, item),) = worker.jobs
    assert item["adapter"] == "birds"
    with pytest.raises(openai.BadRequestError, match="adapter"):
        ai.chat.completions.create(**ask(extra_body={"adapter": 5}))


def test_a_completion_has_the_fields_of_openai(
    ai: openai.OpenAI, worker: Recorder, http: httpx.Client
) -> None:
    completion = ai.chat.completions.create(**ask())
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.model) == ("chat.completion", "blipline")
    (choice,) = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.refusal) == ("assistant", None)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 0
    # The job of the completion is one of the gateway.
    job = http.get(f"/v1/jobs/{completion.id.removeprefix('chatcmpl-')}").json()
    assert job["output"] == {"text": choice.message.content}
    assert int(job["created_at"]) == completion.created


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_new_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_new_tokens": 7}),
        ({"max_tokens": 100_000}, {"max_new_tokens": 1024}),
        (
            {"temperature": 0.5, "top_p": 0.9, "seed": 7},
            {"temperature": 0.5, "top_p": 0.9, "seed": 7},
        ),
        ({"temperature": 0, "top_p": 1, "seed": None, "max_tokens": None}, {}),
        ({"extra_body": {"num_beams": 3, "top_k": 2}}, {"num_beams": 3, "top_k": 2}),
        ({"stop": "."}, {"stop": ["."]}),
        (
            {"n": 3, "temperature": 1, "stop": [".", "!"]},
            {"num_return_sequences": 3, "temperature": 1.0, "stop": [".", "!"]},
        ),
        (
            {
                "n": 1,
                "logprobs": False,
                "frequency_penalty": 0.0,
                "presence_penalty": 0,
                "response_format": {"type": "text"},
                "user": "7",
                "metadata": {"a": "b"},
                "stop": None,
                "tools": [],
                "tool_choice": "none",
                "logit_bias": {},
            },
            {},
        ),
    ],
    ids=range(10),
)
def test_parameters_become_options(
    ai: openai.OpenAI,
    worker: Recorder,
    parameters: dict[str, Any],
    options: dict[str, Any],
) -> None:
    ai.chat.completions.create(**ask(**parameters))
    assert worker.options == [options | {"output_scores": True}]


def scored(text: str, *tokens: str, finish_reason: str = "stop") -> dict[str, Any]:
    """Return a text as a worker sends it with its scores."""
    scores = [{"id": n, "text": token, "logprob": -0.5} for n, token in enumerate(tokens)]
    return {"text": text, "tokens": scores, "logprob": -1.0, "finish_reason": finish_reason}


def test_choices_end_before_stop_texts_and_have_scores_and_counts(
    ai: openai.OpenAI, worker: Recorder
) -> None:
    sequences = [
        scored("a cat. No", " a", " cat", ".", " No"),
        scored("a dog", " a", " dog", "</s>"),
        scored("a cow on", " a", " cow", " on", finish_reason="length"),
    ]
    worker.answer = lambda task, item: {
        "text": "a cat. No",
        "sequences": sequences,
        "prompt_tokens": 9,
    }
    request = ask(n=3, temperature=1, stop=["."], logprobs=True)
    completion = ai.chat.completions.create(**request)
    contents = [choice.message.content for choice in completion.choices]
    assert contents == ["a cat", "a dog", "a cow on"]
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert [choice.finish_reason for choice in completion.choices] == ["stop", "stop", "length"]
    scores = [choice.logprobs.content or [] for choice in completion.choices if choice.logprobs]
    assert [[token.token for token in content] for content in scores] == [
        [" a", " cat"],
        [" a", " dog"],
        [" a", " cow", " on"],
    ]
    assert (scores[0][0].logprob, scores[0][0].bytes) == (-0.5, [32, 97])
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 10, 19)
    # The same as a stream
    chunks = list(ai.chat.completions.create(**request, stream=True))
    streamed = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == contents
    ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert [reason for reason in ends if reason] == ["stop", "stop", "length"]
    assert worker.options[1]["stream"]


def test_a_text_that_grows_never_shows_a_part_of_a_stop_text() -> None:
    form = ChoiceFormat(("stop", "st.", "aa"))
    generator = random.Random(1)
    for _ in range(500):
        text = "".join(generator.choice(["s", "st", "sto", "p", "a", ".", " "]) for _ in range(9))
        shown = ""
        for end in range(len(text) + 1):
            content = form.cut(text[:end])
            assert content.startswith(shown)
            shown = content
        assert form.content(text).startswith(shown)
        assert not any(stop in form.content(text) for stop in form.stop)


def test_a_job_that_fails_is_an_error_also_of_a_stream(ai: openai.OpenAI, worker: Recorder) -> None:
    failed = {"error": {"code": "image_invalid", "message": "no image"}}
    worker.answer = lambda task, item: failed
    with pytest.raises(openai.BadRequestError, match="no image"):
        ai.chat.completions.create(**ask(stream=True))


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_has_the_text_and_an_end(
    ai: openai.OpenAI, worker: Recorder, include_usage: bool
) -> None:
    parameters = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = ai.chat.completions.create(**ask(stream=True, **parameters))
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    first, last, *usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == "answer to how many?"
    assert (first.choices[0].finish_reason, last.choices[0].finish_reason) == (None, "stop")
    assert last.choices[0].delta.content is None
    assert [chunk.choices for chunk in usage] == [[]] * include_usage
    assert all(chunk.usage and chunk.usage.total_tokens == 0 for chunk in usage)


def test_the_stream_helper_of_the_library_collects_the_text(
    ai: openai.OpenAI, worker: Recorder
) -> None:
    with ai.chat.completions.stream(**ask()) as stream:
        events = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == "answer to how many?"
    assert "content.delta" in events


def test_the_end_of_a_stream_is_done(raw: Callable[..., httpx.Response], worker: Recorder) -> None:
    answer = raw("chat/completions", json=ask(stream=True))
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: ")) for event in events)


def test_the_asynchronous_client_works_concurrently(gateway: Reached, worker: Recorder) -> None:
    async def run() -> list[str | None]:
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/openai/v1", api_key=gateway.keys["acme"]
        ) as client:
            whole = [
                client.chat.completions.create(**request_of(user(text(f"{n}"), image())))
                for n in range(5)
            ]
            texts = [answer.choices[0].message.content for answer in await asyncio.gather(*whole)]
            stream = await client.chat.completions.create(**ask(stream=True))
            streamed = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [*texts, "".join(streamed)]

    expected = [*(f"answer to {n}" for n in range(5)), "answer to how many?"]
    assert asyncio.run(run()) == expected
