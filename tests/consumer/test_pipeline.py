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
    revision = {"revision": image["revision"]}
    assert image == {"embedding": [0.6, 0.8]} | revision
    assert text == {"embedding": [1.0, 0.0]} | revision
    assert image["revision"]


def test_an_adapter_answers_the_calls_of_its_model_and_has_its_own_cached_answers(
    start_runner: StartRunner, blob: str
) -> None:
    items = [{"image": blob, "prompt": "a"}] + [
        {"image": blob, "prompt": "a", "adapter": name} for name in ("red", "blue", "red", "green")
    ]
    with start_runner() as runner:
        plain, red, blue, again, unknown = run_captions(runner, items)
        described = run_item(
            runner,
            Task.DESCRIBE,
            {"image": blob, "prompts": ["a cat"], "detail": "low", "adapter": "blue"},
            "describe",
        )
        match = {"image": blob, "texts": ["a"], "adapter": "red"}
        matched = run_item(runner, Task.MATCH, match, "match")
    assert [text["text"].split(" by ")[0] for text in (plain, red, blue)] == [
        "a",
        "a in red",
        "a in blue",
    ]
    assert again == red
    assert unknown["error"]["code"] == "option_invalid"
    assert (
        "'green' is unknown to this worker's model; its adapters are red, blue"
        in (unknown["error"]["message"])
    )
    assert " in blue" in described["text"]
    # The additional model, which ranks the sentences, has no adapters
    assert described["ranked_by"] == "match"
    assert "adapter: the task match does not accept it" in matched["error"]["message"]


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


def test_a_description_takes_rounds_of_captions_and_matches(
    start_runner: StartRunner, blob: str
) -> None:
    item = {"image": blob, "prompts": ["a cat", "the dog"], "detail": "low"}
    with start_runner() as runner:
        result = run_item(runner, Task.DESCRIBE, item, "describe")
        again = run_item(runner, Task.DESCRIBE, item, "again")
    # The echo of each prompt continues it with "by" and a number, and is certain of long texts
    assert [candidate["prompt"] for candidate in result["candidates"]] == ["a cat", "the dog"]
    assert result["text"].startswith(("A cat by ", "The dog by "))
    assert (result["ranked_by"], result["rounds"]) == ("match", 1)
    assert (result["characters"], result["words"]) == (
        len(result["text"]),
        len(result["text"].split()),
    )
    # A kept answer is the same to the second
    assert again == result


def test_capfilt_generates_captions_and_filters_all_texts(
    start_runner: StartRunner, blob: str
) -> None:
    item = {"image": blob, "texts": ["abc", "a long text"], "captions": 1, "threshold": 0.8}
    with start_runner() as runner:
        result = run_item(runner, Task.CAPFILT, item, "capfilt", seed=1)
        again = run_item(runner, Task.CAPFILT, item, "again", seed=1)
        matched = run_item(runner, Task.CAPFILT, item | {"captions": 0}, "matched")
    # The echo writes " by PID", and is the surer of a text, the longer it is
    assert [text["source"] for text in result["accepted"] + result["rejected"]].count(
        "synthetic"
    ) == 1
    assert result["accepted"][0] == {
        "text": "a long text",
        "source": "web",
        "probability": 1.1,
        "cosine": -1.1,
    }
    assert (result["rejected"][0]["text"], result["rejected"][0]["source"]) == ("abc", "web")
    assert again == result
    assert [text["text"] for text in matched["accepted"] + matched["rejected"]] == [
        "a long text",
        "abc",
    ]


def test_capfilt_without_a_retrieval_model_is_rejected_by_name(
    start_runner: StartRunner, blob: str
) -> None:
    with start_runner("--writes") as runner:
        item = {"image": blob, "texts": ["a"]}
        error = run_item(runner, Task.CAPFILT, item, "capfilt")["error"]
    assert error["code"] == "unsupported_task"
    assert "offer caption, chat, vqa, not match, which capfilt needs" in error["message"]


def test_without_a_retrieval_model_length_ranks_a_description(
    start_runner: StartRunner, blob: str
) -> None:
    with start_runner("--writes") as runner:
        result = run_item(runner, Task.DESCRIBE, {"image": blob, "prompts": ["a cat"]}, "describe")
    assert result["ranked_by"] == "length"
    assert result["text"].startswith("A cat by ")


def test_descriptions_share_a_chunk_with_other_tasks_and_fail_alone(
    start_runner: StartRunner, connection: redis.Redis, blob: str
) -> None:
    (broken,) = blobs.upload(connection, Ledger(connection), [b"no image"])
    items = [
        {"image": blob, "task": "describe", "detail": "high"},
        {"image": broken, "task": "describe"},
        {"image": blob, "prompt": "a caption"},
        {"image": blob, "task": "describe", "detail": "huge"},
        {"image": blob, "task": "describe", "custom_id": "last"},
    ]
    with start_runner() as runner:
        results = run_captions(runner, items)
    assert codes(results) == ["ok", "image_invalid", "ok", "option_invalid", "ok"]
    assert results[2]["text"].startswith("a caption by")
    assert results[4]["custom_id"] == "last"
    assert results[0]["candidates"]
