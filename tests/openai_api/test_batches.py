"""Files and batches with the library `openai`, unmodified."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import openai
import pytest
import redis

from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.key_policy import KeyPolicy
from producer.ledger.keys import Keys
from tests.conftest import Finish
from tests.gateway.conftest import Reached, Run, Start
from tests.gateway.fake_worker import running_fake_worker
from tests.gateway.samples import items_in

from .conftest import Recorder
from .samples import ask, image, request_of, text, user

ENDPOINT: Final = "/v1/chat/completions"
DATA_URL: Final = "data:image/png;base64," + base64.b64encode(b"\x89PNG a picture").decode()


def line(custom_id: Any, body: Any, **more: Any) -> dict[str, Any]:
    """Return a request of a file."""
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body, **more}


def file_of(*lines: dict[str, Any] | str) -> io.BytesIO:
    """Return a file of requests, of which strings are lines of their own."""
    texts = [item if isinstance(item, str) else json.dumps(item) for item in lines]
    file = io.BytesIO("\n".join(texts).encode())
    file.name = "requests.jsonl"
    return file


def start(ai: openai.OpenAI, *lines: dict[str, Any] | str, **more: Any) -> Any:
    """Upload requests and create their batch."""
    file = ai.files.create(file=file_of(*lines), purpose="batch")
    return ai.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **more
    )


def wait(ai: openai.OpenAI, batch_id: str) -> Any:
    """Return a batch that has ended."""
    deadline = time.monotonic() + 60
    while (batch := ai.batches.retrieve(batch_id)).status == "in_progress":
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def lines_of(ai: openai.OpenAI, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(item) for item in ai.files.content(file_id).text.splitlines()]


def test_a_batch_answers_every_request_of_its_file(ai: openai.OpenAI, worker: Recorder) -> None:
    worker.answer = lambda task, item: (
        {"error": {"code": "image_unreachable", "message": "404"}}
        if item.get("question") == "broken?"
        else {"text": f"{item['task']} {item.get('question', '')}"}
    )
    created = start(
        ai,
        line("caption", request_of(user(image(DATA_URL)), max_tokens=7)),
        line("question", ask(max_tokens=7)),
        "",
        line("broken", request_of(user(text("broken?"), image()), max_tokens=7)),
        metadata={"run": "7"},
    )
    assert (created.object, created.endpoint, created.completion_window) == (
        *("batch", ENDPOINT, "24h"),
    )
    assert created.id.startswith("batch_")
    batch = wait(ai, created.id)
    assert (batch.status, batch.metadata) == ("completed", {"run": "7"})
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    assert batch.expires_at == batch.created_at + 24 * 3600
    assert batch.created_at <= batch.completed_at <= time.time()
    outputs = lines_of(ai, batch.output_file_id)
    answers = {
        item["custom_id"]: item["response"]["body"]["choices"][0]["message"]["content"]
        for item in outputs
    }
    assert answers == {"caption": "caption ", "question": "vqa how many?"}
    assert {item["response"]["status_code"] for item in outputs} == {200}
    assert {item["error"] for item in outputs} == {None}
    (failed,) = lines_of(ai, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("broken", 400)
    assert failed["response"]["body"]["error"]["code"] == "image_unreachable"
    assert worker.options == [worker.options[0]]
    assert worker.options[0]["max_new_tokens"] == 7
    for file_id, name in ((batch.output_file_id, "output"), (batch.error_file_id, "errors")):
        file = ai.files.retrieve(file_id)
        assert file.bytes == len(ai.files.content(file_id).content)
        assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_{name}.jsonl")


def test_each_request_has_its_own_options(ai: openai.OpenAI, worker: Recorder) -> None:
    requests = [ask(max_tokens=7), ask(max_tokens=7), ask(temperature=0.5), ask(max_tokens=20)]
    batch = wait(ai, start(ai, *(line(str(n), each) for n, each in enumerate(requests))).id)
    assert batch.request_counts.completed == 4
    assert worker.options[0]["max_new_tokens"] == 7
    assert [item.get("options") for _, item in worker.jobs] == [
        *(None, None),
        {"max_new_tokens": 20, "temperature": 0.5, "output_scores": True},
        {"max_new_tokens": 20, "output_scores": True},
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        (line(None, ask()), "custom_id: a text of 1 to 512"),
        (line(7, ask()), "custom_id: a text of 1 to 512"),
        (line("x" * 513, ask()), "custom_id: a text of 1 to 512"),
        (line("first", ask()), "'first' occurs twice"),
        (line("2", ask(), url="/v1/embeddings"), "url must be"),
        (line("2", ask(), method="GET"), "url must be"),
        (line("2", "hello"), "body: the parameters"),
        (line("2", ask(stream=True)), "'stream' and 'deadline_s'"),
        (line("2", ask(deadline_s=5)), "'stream' and 'deadline_s'"),
        (line("2", ask(n=2)), "'n' above 1 needs"),
        (line("2", ask(logprobs=True)), "have the same ones"),
        (line("2", ask(stop=".")), "have the same ones"),
        (line("2", ask(temperature=99)), "less than or equal to 10"),
        (line("2", ask(model="gpt-4o")), "does not exist"),
        (line("2", request_of(user("hello"))), "No message contains an image"),
        (line("2", request_of(user(image("cat.jpg")))), "is not an image reference"),
    ],
)
def test_an_invalid_request_is_an_error_of_its_own(
    ai: openai.OpenAI, worker: Recorder, request_: Any, message: str
) -> None:
    batch = wait(ai, start(ai, line("first", ask()), request_, line("last", ask())).id)
    assert batch.status == "completed"
    assert [item["custom_id"] for item in lines_of(ai, batch.output_file_id)] == ["first", "last"]
    (failed,) = lines_of(ai, batch.error_file_id)
    error = failed["response"]["body"]["error"]
    assert message in error["message"]
    assert failed["response"]["status_code"] == 400
    custom_id = request_.get("custom_id") if isinstance(request_, dict) else None
    is_valid = isinstance(custom_id, str) and len(custom_id) < 513
    assert failed["custom_id"] == (custom_id if is_valid else None)


def test_a_batch_survives_the_death_of_its_gateway(
    start_gateway: Start,
    run_gateway: Run,
    connection: redis.Redis,
    finish: Finish,
    redis_url: str,
) -> None:
    first, second = start_gateway(), run_gateway()

    def client_of(started: Reached) -> openai.OpenAI:
        base_url = f"{started.url}/openai/v1"
        return openai.OpenAI(base_url=base_url, api_key=started.keys["acme"], max_retries=0)

    with client_of(first) as ai, client_of(second) as survivor:
        requests = [line(str(n), request_of(user(text(f"{n}?"), image()))) for n in range(40)]
        batch = start(ai, *requests)
        assert (batch.status, batch.request_counts.total) == ("in_progress", 40)
        first.process.kill()
        inner_id = batch.id.removeprefix("batch_")
        assert [item["custom_id"] for item in items_in(redis_url, inner_id)] == [
            str(n) for n in range(40)
        ]
        # A part of the results is no file yet.
        finish(f"acme.batch.{inner_id}:0", [{"custom_id": str(n), "text": ""} for n in range(32)])
        counts = survivor.batches.retrieve(batch.id).request_counts
        assert counts is not None
        assert counts.completed == 32
        with pytest.raises(openai.NotFoundError):
            survivor.files.content(f"file-output-{inner_id}")
        with running_fake_worker(connection, finish, lambda _, item: {"text": item["question"]}):
            ended = wait(survivor, batch.id)
        outputs = lines_of(survivor, ended.output_file_id)
        assert [item["custom_id"] for item in outputs] == [str(n) for n in range(40)]
        assert outputs[39]["response"]["body"]["choices"][0]["message"]["content"] == "39?"
        assert ended.error_file_id is None


def test_a_cancelled_batch_names_its_requests(ai: openai.OpenAI, gateway: Reached) -> None:
    batch = start(ai, line("a", ask()), line("b", ask()))
    assert batch.output_file_id is None
    with pytest.raises(openai.NotFoundError):
        ai.files.content(f"file-output-{batch.id.removeprefix('batch_')}")
    cancelled: Any = ai.batches.cancel(batch.id)
    assert cancelled.status == "cancelled"
    assert ai.batches.cancel(batch.id) == cancelled
    failed = lines_of(ai, cancelled.error_file_id)
    assert [(item["custom_id"], item["error"]["code"]) for item in failed] == [
        ("a", "batch_cancelled"),
        ("b", "batch_cancelled"),
    ]
    # The batch is one of the gateway.
    status = gateway.client().get(f"/v1/batches/{batch.id.removeprefix('batch_')}").json()
    assert status["status"] == "cancelled"


def test_batches_and_files_are_listed_page_by_page(ai: openai.OpenAI, gateway: Reached) -> None:
    batches = [start(ai, line(str(n), ask())).id for n in range(5)]
    assert [batch.id for batch in ai.batches.list(limit=2)] == batches[::-1]
    first = ai.batches.list(limit=2)
    assert (len(first.data), first.has_more) == (2, True)
    files = [file.id for file in ai.files.list(limit=2)]
    inputs = [ai.batches.retrieve(batch).input_file_id for batch in batches]
    assert files == inputs[::-1]
    assert [file.id for file in ai.files.list(order="asc", purpose="batch")] == inputs
    assert list(ai.files.list(purpose="vision")) == []
    for list_of in (ai.files.list, ai.batches.list):
        with pytest.raises(openai.BadRequestError, match="after"):
            list_of(after="unknown")
        with pytest.raises(openai.BadRequestError, match="limit"):
            list_of(limit=0)


def test_a_file_is_read_and_deleted(ai: openai.OpenAI, connection: redis.Redis) -> None:
    data = file_of(line("1", ask())).getvalue()
    file = ai.files.create(file=("../a.jsonl", data), purpose="batch")
    assert (file.bytes, file.filename, file.status) == (len(data), "a.jsonl", "processed")
    assert file.expires_at == file.created_at + 3600
    assert ai.files.retrieve(file.id) == file
    assert ai.files.content(file.id).content == data
    for key in (Keys().files("acme"), *connection.keys("*blob:*")):
        assert 0 < connection.ttl(key) <= 3600
    assert ai.files.delete(file.id).deleted
    for call in (ai.files.retrieve, ai.files.content, ai.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(file.id)
        assert caught.value.code == "file_not_found"


def test_names_do_not_share_files_and_batches(ai: openai.OpenAI, gateway: Reached) -> None:
    batch: Any = ai.batches.cancel(start(ai, line("1", ask())).id)
    base_url, key = f"{gateway.url}/openai/v1", gateway.keys["other"]

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as stranger:
            assert [item async for item in stranger.batches.list()] == []
            assert [item async for item in stranger.files.list()] == []
            for call, name in (
                (stranger.batches.retrieve, batch.id),
                (stranger.batches.cancel, batch.id),
                (stranger.files.content, batch.input_file_id),
                (stranger.files.content, batch.error_file_id),
                (stranger.files.delete, batch.input_file_id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await call(name)
            with pytest.raises(openai.NotFoundError):
                await stranger.batches.create(
                    input_file_id=batch.input_file_id, endpoint=ENDPOINT, completion_window="24h"
                )

    asyncio.run(run())


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"files": {"file": b"x"}}, 400, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": b"x"}}, 400, "file"),
        ({"data": {"purpose": "fine-tune"}, "files": {"file": b"x"}}, 400, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"file": b""}}, 400, "file"),
        ({"json": {"purpose": "batch"}}, 415, "file"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, None),
    ],
    ids=range(6),
)
def test_an_invalid_upload_is_rejected(
    raw: Callable[..., httpx.Response], form: dict[str, Any], status: int, param: str | None
) -> None:
    answer = raw("files", **form)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_an_invalid_batch_is_rejected(
    raw: Callable[..., httpx.Response], ai: openai.OpenAI, connection: redis.Redis
) -> None:
    file_id = ai.files.create(file=file_of(line("1", ask())), purpose="batch").id
    blank = ai.files.create(file=("a.jsonl", b"\n \n"), purpose="batch").id
    valid = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
    for change, status, param in (
        ({"input_file_id": None}, 400, "input_file_id"),
        ({"input_file_id": "file-unknown"}, 404, "id"),
        ({"input_file_id": blank}, 400, "input_file_id"),
        ({"input_file_id": [1]}, 404, "id"),
        ({"endpoint": "/v1/embeddings"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata"),
        ({"metadata": 5}, 400, "metadata"),
        ({"priority": 5}, 400, "priority"),
    ):
        answer = raw("batches", json={**valid, **change})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), error
    for batch_id in ("batch_unknown", "unknown", "batch_a b"):
        with pytest.raises(openai.NotFoundError):
            ai.batches.retrieve(batch_id)
    assert list(ai.batches.list()) == []
    assert connection.zcard(Keys().open) == 0


def test_a_batch_for_which_the_queue_has_no_room_is_deleted(
    run_gateway: Run, connection: redis.Redis
) -> None:
    started = run_gateway(BLIPLINE_MAX_QUEUED_BULK="32", BLIPLINE_GATEWAY_UPLOAD_WAIT_S="0")
    base_url = f"{started.url}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key=started.keys["acme"], max_retries=0) as ai:
        with pytest.raises(openai.RateLimitError) as caught:
            start(ai, *(line(str(n), ask()) for n in range(99)))
        assert caught.value.code == "queue_full"
        assert list(ai.batches.list()) == []
    assert connection.zcard(Keys().open) == 0


def test_a_batch_beyond_the_daily_quota_of_its_key_leaves_nothing(
    ai: openai.OpenAI, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme", KeyPolicy(items_per_day=70))
    limited = ai.with_options(api_key=key)
    with pytest.raises(openai.RateLimitError) as caught:
        start(limited, *(line(str(n), ask()) for n in range(99)))
    assert caught.value.code == "insufficient_quota"
    assert "This API key has used its 70 items of today" in caught.value.message
    assert list(ai.batches.list()) == []
    assert connection.zcard(Keys().open) == 0
    batch = start(limited, *(line(str(n), ask()) for n in range(70)))
    assert batch.request_counts.total == 70
    with pytest.raises(openai.RateLimitError, match="try again after midnight"):
        limited.chat.completions.create(**ask())
