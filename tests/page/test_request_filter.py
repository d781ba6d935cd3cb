"""Which files and pages somebody's requests may name."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from producer.page import request_filter
from producer.page.ownership import Ownership
from producer.page.request_filter import Forbidden, TooSlow, body_of, checked

OWN = "/files/ab/own.png"
META = {"_type": "gradio.FileData"}


@pytest.fixture
def holdings() -> Ownership:
    """Acme has uploaded one file."""
    holdings = Ownership()
    holdings.uploaded(OWN, "acme")
    return holdings


def sent(holdings: Ownership, *data: Any, name: str = "acme", page: Any = "p1") -> Any:
    body = json.dumps({"data": data, "fn_index": 0, "session_hash": page}).encode()
    fields = {0: [lambda _: True] * len(data)}
    return json.loads(checked(body, name, holdings, fields))["data"]


def test_ones_own_file_passes_and_its_url_does_not(holdings: Ownership) -> None:
    (file,) = sent(holdings, {"path": OWN, "url": "http://10.0.0.1/x", "meta": META})
    assert file == {"path": OWN, "meta": META}


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1/x.png",
        "https://example.com/x.png",
        "/etc/passwd",
        f"{OWN}/../own.png",
        "data:image/png;base64,AA==",
        "",
        None,
        1,
        [OWN],
    ],
)
@pytest.mark.parametrize("meta", [META, None])
def test_nothing_else_is_a_file_here(holdings: Ownership, path: Any, meta: Any) -> None:
    with pytest.raises(Forbidden):
        sent(holdings, {"path": path, "meta": meta})


def test_a_file_is_found_at_any_depth(holdings: Ownership) -> None:
    with pytest.raises(Forbidden):
        sent(holdings, [{"value": [{"a": {"path": "http://127.0.0.1/"}}]}])


def test_a_file_is_only_that_of_who_uploaded_it(holdings: Ownership) -> None:
    with pytest.raises(Forbidden):
        sent(holdings, {"path": OWN, "meta": META}, name="other", page="p2")


def test_two_people_may_upload_the_same(holdings: Ownership) -> None:
    holdings.uploaded(OWN, "other")
    assert holdings.may_read(OWN, "acme")
    assert holdings.may_read(OWN, "other")


def test_an_open_page_is_one_persons(holdings: Ownership) -> None:
    assert sent(holdings, "text") == ["text"]
    with pytest.raises(Forbidden):
        sent(holdings, "text", name="other")


@pytest.mark.parametrize("page", [None, 1, ["p1"]])
def test_a_request_says_of_which_page_it_is(holdings: Ownership, page: Any) -> None:
    with pytest.raises(Forbidden):
        sent(holdings, page=page)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_refused(holdings: Ownership, body: bytes) -> None:
    with pytest.raises(Forbidden):
        checked(body, "acme", holdings, {})


def coming(*parts: bytes, ends: bool) -> Request:
    """A request whose body comes in parts; the rest of it never does, unless it ends."""
    left = deque(parts)

    async def receive() -> Message:
        if not left and not ends:
            await asyncio.Event().wait()
        body = left.popleft() if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}

    return Request({"type": "http", "method": "POST"}, receive)


def test_a_body_is_read_up_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asyncio.run(body_of(coming(b"ab", b"cd", ends=True), 4)) == b"abcd"
    assert asyncio.run(body_of(coming(b"ab", b"cde", ends=True), 4)) is None
    monkeypatch.setattr(request_filter, "BODY_S", 0.05)
    with pytest.raises(TooSlow, match="did not come within"):
        asyncio.run(body_of(coming(b"ab", ends=False), 4))
