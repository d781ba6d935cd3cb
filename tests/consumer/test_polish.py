"""Polishing of descriptions by a small server in place of a language model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from config.settings import WorkerSettings
from demo.stack import free_port
from producer import InvalidInput
from producer.contract import Task
from tests.consumer.runners import StartRunner, run_item
from tests.language_model import LanguageModel, completion, running_language_model
from worker.consumer.polish import Polisher

TEXT = "A cat. A sofa."


@pytest.fixture
def language_model() -> Iterator[tuple[str, type[LanguageModel]]]:
    """The base URL of a server, and its handler."""
    with running_language_model() as server:
        yield server


@pytest.fixture
def polish(language_model: tuple[str, type[LanguageModel]]) -> Iterator[Polisher]:
    polisher = Polisher(language_model[0], "small", "secret", timeout_s=0.3)
    yield polisher
    polisher.close()


def test_the_endpoint_gets_the_text_with_its_candidates_and_the_key(
    language_model: tuple[str, type[LanguageModel]], polish: Polisher
) -> None:
    answer = polish.submit(TEXT, ["a cat", "a sofa"]).result()
    assert (answer.text, answer.error_code) == ("Polished.", None)
    ((path, key, body),) = language_model[1].requests
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"]) == ("small", 0)
    assert json.loads(body["messages"][-1]["content"]) == {
        "description": TEXT,
        "candidates": ["a cat", "a sofa"],
    }


@pytest.mark.parametrize(
    ("status", "reply", "reason"),
    [
        (500, {"error": "secret details"}, "HTTP 500"),
        (401, {}, "HTTP 401"),
        (200, b"<html>", "no choices"),
        (200, {"choices": []}, "no choices"),
        (200, [], "no choices"),
        (200, completion("  "), "empty"),
        (200, completion(None), "empty"),
        (200, completion("long " * 5000), "characters"),
        (200, None, "in time"),
    ],
)
def test_a_reply_without_a_text_is_an_error_with_its_reason(
    language_model: tuple[str, type[LanguageModel]],
    polish: Polisher,
    status: int,
    reply: Any,
    reason: str,
) -> None:
    language_model[1].replies.append((status, reply))
    answer = polish.submit(TEXT, []).result()
    assert answer.error_code is not None
    assert reason in answer.error_message
    assert "secret" not in answer.error_message
    assert "127.0.0.1" not in answer.error_message


def test_after_an_unreachable_endpoint_further_texts_do_not_wait() -> None:
    polisher = Polisher(f"http://127.0.0.1:{free_port()}", "small")
    answers = [polisher.submit(TEXT, []).result() for _ in range(2)]
    polisher.close()
    assert answers[0] == answers[1]
    assert "cannot be reached" in answers[0].error_message


def test_a_deadline_that_has_passed_sends_no_request(
    language_model: tuple[str, type[LanguageModel]], polish: Polisher
) -> None:
    answer = polish.submit(TEXT, [], time.monotonic() - 1).result()
    assert "deadline" in answer.error_message
    assert language_model[1].requests == []


def test_a_description_is_polished_or_has_a_warning(
    language_model: tuple[str, type[LanguageModel]],
    polish: Polisher,
    start_runner: StartRunner,
    blob: str,
) -> None:
    language_model[1].replies += [(500, {}), (200, completion('"A cat naps."'))]
    item = {"image": blob, "prompts": ["a cat"], "detail": "low"}
    with start_runner(polisher=polish) as runner:
        failed = run_item(runner, Task.DESCRIBE, item, "failed")
        polished = run_item(runner, Task.DESCRIBE, item, "polished")
        cached = run_item(runner, Task.DESCRIBE, item, "cached")
    assert failed["warning"] == "not polished: the language model answered with HTTP 500"
    # A result with a warning is not kept, a polished one is
    assert polished["unpolished"] == failed["text"]
    assert (polished["text"], polished["words"]) == ("A cat naps.", 3)
    assert cached == polished
    assert "unpolished" not in failed
    assert "warning" not in polished
    assert len(language_model[1].requests) == 2


def test_polishing_is_part_of_the_key_of_kept_answers(
    start_runner: StartRunner, blob: str, polish: Polisher, connection: redis.Redis
) -> None:
    item = {"image": blob, "prompts": ["a cat"], "detail": "low"}
    with start_runner() as runner:
        plain = run_item(runner, Task.DESCRIBE, item, "plain")
    with start_runner(polisher=polish) as runner:
        assert run_item(runner, Task.DESCRIBE, item, "polished")["text"] == "Polished."
    assert "unpolished" not in plain
    large = Polisher("http://host/v1", "large")
    assert large.identity != Polisher("http://host/v1", "small").identity != polish.identity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"polish_url": "ftp://host"}, "BLIPLINE_POLISH_URL='ftp://host'"),
        ({"polish_url": "http://"}, "must be http"),
        ({"polish_url": "http://host/v1"}, "BLIPLINE_POLISH_MODEL"),
    ],
)
def test_invalid_settings_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        WorkerSettings.load(**settings)


def test_the_key_is_not_shown() -> None:
    settings = WorkerSettings(polish_url="http://host", polish_model="m", polish_key="secret")
    assert "secret" not in repr(settings)
