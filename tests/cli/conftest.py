"""The environment of the command line, and a thread in place of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from demo.stack import ROOT
from producer import contract
from producer.job import Job
from producer.ledger.leases import Leases
from tests.cli.shell import Finish, id_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Path) -> None:
    """Make every command, also in a process of its own, use this Redis and start in tmp_path."""
    monkeypatch.setenv("BLIPLINE_REDIS_URL", redis_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def keeps_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a job queued when its timeout has passed, so that a test can read its payload."""
    monkeypatch.setattr(Job, "cancel", lambda _: None)


@pytest.fixture
def answered_items() -> list[Mapping[str, Any]]:
    """The items that `answer_chunk` has answered, in order."""
    return []


@pytest.fixture
def answer_chunk(
    connection: redis.Redis, finish: Finish, answered_items: list[Mapping[str, Any]]
) -> Callable[[], bool]:
    """Answer a message of either queue; return False if there is none."""
    leases = Leases(connection)

    def answer() -> bool:
        message = connection.brpop(["interactive", "bulk"], timeout=0.05)
        if message is None:
            return False
        claim = leases.claim(id_of(message[1]))
        assert claim.payload is not None
        answered_items.extend(claim.payload["items"])
        results = [item.get("result") or result_of(item) for item in claim.payload["items"]]
        finish(id_of(message[1]), results)
        return True

    return answer


@pytest.fixture
def workers(answer_chunk: Callable[[], bool]) -> Iterator[None]:
    """Answer every message of both queues in a thread."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            answer_chunk()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopping.set()
    thread.join()


def result_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of an item."""
    custom_id = {"custom_id": item["custom_id"]} if "custom_id" in item else {}
    if "error" in item:
        return custom_id | {"error": item["error"]}
    if item.get("image", "").endswith("broken.jpg") or item.get("question") == "and this?":
        return {**custom_id, **contract.failure("image_invalid", "no image")}
    return custom_id | output_of(item)


def output_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of an item, whose fields determine the task."""
    if "captions" in item:
        return filter_result_of(item)
    if "texts" in item:
        scores = [(0.25, -0.5), (0.99999, 0.4321), (0.25, 0.1)]
        matches = [
            {"text": text, "probability": probability, "cosine": cosine}
            for text, (probability, cosine) in zip(item["texts"], scores, strict=False)
        ]
        return {"text": item["texts"][0], "matches": matches}
    if "detail" in item:
        return description_of(f"A {item['detail']} cat.")
    if "text" in item or "vector" in item["image"]:
        return {"embedding": [0.6, -0.8]}
    before = f" after {item['history']}" if item.get("history") else ""
    return {"text": f"about {item.get('question') or item['image'].rpartition('/')[2]}{before}"}


def filter_result_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter result: a text that ends with a number has this many percent."""
    scored = []
    for text in item["texts"]:
        probability = int(text.rpartition(" ")[2]) / 100
        scored.append(("web", text, probability, probability >= item["threshold"]))
    for number in range(item["captions"]):
        scored.append(("synthetic", f"synthetic {number}", 0.75, True))
    accepted, rejected = (
        [
            {"text": text, "source": source, "probability": probability, "cosine": 0.25}
            for source, text, probability, is_accepted in scored
            if is_accepted is expected
        ]
        for expected in (True, False)
    )
    return {
        "text": accepted[0]["text"] if accepted else "",
        "accepted": accepted,
        "rejected": rejected,
    }


def description_of(text: str) -> dict[str, Any]:
    """Return a description of one candidate."""
    candidate = {"text": text, "prompt": "", "round": 1, "score": 0.9, "used": True}
    return {
        "text": text,
        "characters": len(text),
        "words": len(text.split()),
        "candidates": [candidate],
        "rounds": 1,
        "seconds": 0.1,
        "ranked_by": "match",
        "warning": "not polished",
    }
