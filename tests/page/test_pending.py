"""Buttons whose answers are waited for: how many there may be, and until when they are wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from producer import Client, State
from producer.contract import Task
from producer.page import pending as places_module
from producer.page.access import MAX_WAITING
from producer.page.pending import PendingAnswers
from tests.page.visitor import Served

URL = "https://example.com/a.png"


def test_what_is_asked_last_in_a_place_counts() -> None:
    places = PendingAnswers()
    first = places.ask("p1", Task.CAPTION, "a.png")
    others = [places.ask("p1", Task.VQA, "a.png"), places.ask("p2", Task.CAPTION, "a.png")]
    last = places.ask("p1", Task.CAPTION, "a.png")
    assert first.over.is_set()
    assert first.replaced
    assert not any(asked.over.is_set() for asked in (*others, last))


def test_another_picture_ends_what_was_asked_about_others_alone() -> None:
    places = PendingAnswers()
    caption, answer = (places.ask("p1", task, "a.png") for task in (Task.CAPTION, Task.VQA))
    newer, elsewhere = (places.ask(page, Task.MATCH, "b.png") for page in ("p1", "p2"))
    places.turn("p1", "b.png")
    places.turn("unknown", "b.png")
    assert all(asked.over.is_set() for asked in (caption, answer))
    assert not any(asked.over.is_set() for asked in (newer, elsewhere))
    assert not caption.replaced


def test_pages_that_ask_nothing_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "MAX_PAGES", 2)
    places = PendingAnswers()
    asked = [places.ask(page, Task.CAPTION, "a.png") for page in ("p1", "p2", "p3")]
    for page in ("p1", "p2", "p3"):
        places.turn(page, "b.png")
    assert [one.over.is_set() for one in asked] == [False, True, True]


@contextmanager
def signed_in(served: Served, name: str) -> Iterator[httpx.Client]:
    """A client whose paths are those below the page."""
    with httpx.Client(base_url=f"{served.url}/", timeout=30) as client:
        client.post("login", data={"key": served.keys[name]})
        yield client


def join(client: httpx.Client, page: str) -> int:
    """Ask for a caption; returns the status."""
    data = [None, URL, "", 20, 1, 0, 1, 0, 1, None, None]
    body = {"data": data, "fn_index": 0, "session_hash": page}
    return client.post("gradio_api/queue/join", json=body).status_code


def test_who_leaves_the_page_no_longer_waits(slow: Served) -> None:
    with signed_in(slow, "acme") as visitor, Client(slow.redis_url) as client:
        assert join(visitor, "left") == 200
        with visitor.stream("GET", "gradio_api/queue/data?session_hash=left") as answers:
            # Kept, as the connection is closed with it.
            lines = answers.iter_lines()
            while "process_starts" not in next(lines):
                pass
            # Pytest's time limit ends what takes for ever.
            while not (jobs := slow.jobs("acme")):
                time.sleep(0.05)
        while client.job(*jobs).status() is not State.CANCELLED:
            time.sleep(0.05)


def test_one_name_does_not_shut_the_page_for_the_others(slow: Served) -> None:
    with signed_in(slow, "acme") as acme, signed_in(slow, "other") as other:
        statuses = [join(acme, f"page{n}") for n in range(MAX_WAITING + 9)]
        assert statuses.count(429) >= 9
        assert set(statuses) == {200, 429}
        assert join(other, "others") == 200
