"""Requests of a page: their files, pages and bodies."""

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
from producer.page.request_filter import BodyTimeout, Forbidden, filter_request, read_body

OWN = "/files/ab/own.png"
META = {"_type": "gradio.FileData"}


@pytest.fixture
def ownership() -> Ownership:
    """Return an ownership in which acme has uploaded a file."""
    ownership = Ownership()
    ownership.add_file(OWN, "acme")
    return ownership


def filtered(ownership: Ownership, *data: Any, name: str = "acme", page: Any = "p1") -> Any:
    body = json.dumps({"data": data, "fn_index": 0, "session_hash": page}).encode()
    validators = {0: [lambda _: True] * len(data)}
    return json.loads(filter_request(body, name, ownership, validators))["data"]


def test_an_own_file_passes_without_its_url(ownership: Ownership) -> None:
    (file,) = filtered(ownership, {"path": OWN, "url": "http://10.0.0.1/x", "meta": META})
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
def test_no_other_path_is_accepted_as_a_file(ownership: Ownership, path: Any, meta: Any) -> None:
    with pytest.raises(Forbidden):
        filtered(ownership, {"path": path, "meta": meta})


def test_files_are_checked_at_any_depth(ownership: Ownership) -> None:
    with pytest.raises(Forbidden):
        filtered(ownership, [{"value": [{"a": {"path": "http://127.0.0.1/"}}]}])


def test_a_file_of_another_tenant_is_rejected(ownership: Ownership) -> None:
    with pytest.raises(Forbidden):
        filtered(ownership, {"path": OWN, "meta": META}, name="globex", page="p2")


def test_two_tenants_may_upload_the_same_file(ownership: Ownership) -> None:
    ownership.add_file(OWN, "globex")
    assert ownership.may_read(OWN, "acme")
    assert ownership.may_read(OWN, "globex")


def test_an_open_page_has_one_owner(ownership: Ownership) -> None:
    assert filtered(ownership, "text") == ["text"]
    with pytest.raises(Forbidden):
        filtered(ownership, "text", name="globex")


@pytest.mark.parametrize("page", [None, 1, ["p1"]])
def test_a_request_without_a_page_is_rejected(ownership: Ownership, page: Any) -> None:
    with pytest.raises(Forbidden):
        filtered(ownership, page=page)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_rejected(ownership: Ownership, body: bytes) -> None:
    with pytest.raises(Forbidden):
        filter_request(body, "acme", ownership, {})


def request_of(*parts: bytes, ends: bool) -> Request:
    """Return a request whose body arrives in parts; unless it `ends`, it then stalls."""
    remaining = deque(parts)

    async def receive() -> Message:
        if not remaining and not ends:
            await asyncio.Event().wait()
        body = remaining.popleft() if remaining else b""
        return {"type": "http.request", "body": body, "more_body": bool(remaining) or not ends}

    return Request({"type": "http", "method": "POST"}, receive)


def test_a_body_is_read_up_to_its_limit_and_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert asyncio.run(read_body(request_of(b"ab", b"cd", ends=True), 4)) == b"abcd"
    assert asyncio.run(read_body(request_of(b"ab", b"cde", ends=True), 4)) is None
    monkeypatch.setattr(request_filter, "BODY_S", 0.05)
    with pytest.raises(BodyTimeout, match="did not arrive within"):
        asyncio.run(read_body(request_of(b"ab", ends=False), 4))
