"""The item pipeline with a real engine process that only echoes."""

from __future__ import annotations

import redis

from producer.contract import Task
from producer.ledger import blobs
from producer.ledger.ledger import Ledger
from tests.consumer.runners import StartRunner, codes, run_captions, run_item


def test_one_bad_item_never_harms_its_neighbours(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    (broken,) = blobs.upload(connection, Ledger(connection), [b"no image"])
    items = [
        {"image": blob, "prompt": "one"},
        {"image": broken},
        {"image": "blob:" + "0" * 64},
        {"image": "ftp://x"},
        {"image": "http://127.0.0.1/x.png"},
        {"image": blob, "question": "not for captions"},
        "nonsense",
        {"image": blob, "prompt": "eight", "custom_id": "h"},
    ]
    with start_runner() as runner:
        results = run_captions(runner, items)
    assert codes(results) == [
        "ok",
        "image_invalid",
        "image_unreachable",
        "image_blocked",
        "image_blocked",
        "option_invalid",
        "option_invalid",
        "ok",
    ]
    assert results[0]["text"].startswith("one by")
    assert results[7]["text"].startswith("eight by")
    assert results[7]["custom_id"] == "h"


def test_each_task_returns_the_fields_of_its_contract(start_runner: StartRunner, blob: str) -> None:
    history = [{"question": "what?", "answer": "a circle"}]
    chat = {"image": blob, "question": "where?", "history": history}
    with start_runner() as runner:
        reply = run_item(runner, Task.CHAT, chat, "chat")["text"]
        match = run_item(runner, Task.MATCH, {"image": blob, "texts": ["a", "bbb", "bb"]}, "match")
        image = run_item(runner, Task.EMBED, {"image": blob}, "image")
        text = run_item(runner, Task.EMBED, {"text": "a circle"}, "text")
    assert reply.startswith("what? a circle where? by")
    assert match["text"] == "bbb"
    assert [score["text"] for score in match["matches"]] == ["a", "bbb", "bb"]
    assert match["matches"][1] == {"text": "bbb", "probability": 0.3, "cosine": -0.3}
    assert (image, text) == ({"embedding": [0.6, 0.8]}, {"embedding": [1.0, 0.0]})


def test_tasks_of_two_models_share_a_chunk(start_runner: StartRunner, blob: str) -> None:
    items = [{"image": blob}, {"image": blob, "task": "embed"}, {"text": "a", "task": "embed"}]
    with start_runner() as runner:
        results = run_captions(runner, items)
    assert results[0]["text"].startswith("by") or " by" in results[0]["text"]
    assert [result.get("embedding") for result in results] == [None, [0.6, 0.8], [1.0, 0.0]]


def test_a_task_without_a_model_is_rejected_before_its_image_is_fetched(
    start_runner: StartRunner,
) -> None:
    with start_runner("--writes") as runner:
        item = {"image": "blob:" + "0" * 64, "texts": ["a"]}
        error = run_item(runner, Task.MATCH, item, "match")["error"]
    assert error["code"] == "unsupported_task"
    assert "offer caption, chat, vqa, not match" in error["message"]
