"""Pending answers: their limit and their cancellation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from producer import Client, State
from producer.contract import Task
from producer.page import pending as pending_module
from producer.page.access import MAX_PENDING
from producer.page.pending import PendingAnswers
from tests.page.visitor import Served

URL = "https://example.com/a.png"


def test_a_new_request_replaces_that_of_the_same_page_and_task() -> None:
    pending = PendingAnswers()
    first = pending.add("p1", Task.CAPTION, "a.png")
    others = [pending.add("p1", Task.VQA, "a.png"), pending.add("p2", Task.CAPTION, "a.png")]
    last = pending.add("p1", Task.CAPTION, "a.png")
    assert first.cancelled.is_set()
    assert first.replaced
    assert not any(answer.cancelled.is_set() for answer in (*others, last))


def test_another_image_cancels_only_answers_about_others() -> None:
    pending = PendingAnswers()
    caption, reply = (pending.add("p1", task, "a.png") for task in (Task.CAPTION, Task.VQA))
    same_image, other_page = (pending.add(page, Task.MATCH, "b.png") for page in ("p1", "p2"))
    pending.choose_image("p1", "b.png")
    pending.choose_image("unknown", "b.png")
    assert all(answer.cancelled.is_set() for answer in (caption, reply))
    assert not any(answer.cancelled.is_set() for answer in (same_image, other_page))
    assert not caption.replaced


def test_the_least_recently_used_page_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "MAX_PAGES", 2)
    pending = PendingAnswers()
    answers = [pending.add(page, Task.CAPTION, "a.png") for page in ("p1", "p2", "p3")]
    for page in ("p1", "p2", "p3"):
        pending.choose_image(page, "b.png")
    assert [answer.cancelled.is_set() for answer in answers] == [False, True, True]


@contextmanager
def signed_in(served: Served, name: str) -> Iterator[httpx.Client]:
    """Sign a tenant in; yield a client whose paths are relative to the page."""
    with httpx.Client(base_url=f"{served.url}/", timeout=30) as client:
        client.post("login", data={"key": served.keys[name]})
        yield client


def join(client: httpx.Client, page: str) -> int:
    """Request a caption and return the HTTP status."""
    data = [None, URL, "", 20, 1, 0, 1, 0, 1, None, None, ""]
    body = {"data": data, "fn_index": 0, "session_hash": page}
    return client.post("gradio_api/queue/join", json=body).status_code


def test_closing_the_page_cancels_its_jobs(idle: Served) -> None:
    with signed_in(idle, "acme") as visitor, Client(idle.redis_url) as client:
        known = idle.jobs("acme")
        assert join(visitor, "closed") == 200
        with visitor.stream("GET", "gradio_api/queue/data?session_hash=closed") as answers:
            # A variable, as the connection is closed with the iterator.
            lines = answers.iter_lines()
            while "process_starts" not in next(lines):
                pass
            # Pytest's timeout ends an endless loop.
            while not (new := idle.jobs("acme") - known):
                time.sleep(0.05)
        while client.job(*new).status() is not State.CANCELLED:
            time.sleep(0.05)


def test_the_limit_of_a_tenant_does_not_affect_others(idle: Served) -> None:
    # Its requests stay pending, so that no other test may use this tenant.
    with signed_in(idle, "initech") as initech, signed_in(idle, "globex") as globex:
        statuses = [join(initech, f"initech{n}") for n in range(MAX_PENDING + 9)]
        assert statuses.count(429) >= 9
        assert set(statuses) == {200, 429}
        assert join(globex, "globexs") == 200
