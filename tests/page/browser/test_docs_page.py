"""The documentation of the API in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.page.visitor import Served, Visitor


@pytest.fixture(scope="module")
def reader(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Return a visitor of `/docs`; check that its page had no error and no external request."""
    reader = Visitor(browser, served, size=(1280, 900))
    reader.page.goto(f"{served.address}/docs")
    yield reader
    reader.close()
    assert reader.errors == []
    assert reader.external_requests == []


def test_an_example_runs_with_a_key(reader: Visitor) -> None:
    page = reader.page
    page.get_by_role("button", name="Authorize").click()
    page.get_by_label("auth-bearer-value").fill(reader.served.keys["acme"])
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    operation = page.locator(".opblock-post", has=page.locator('[data-path="/v1/jobs"]'))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_placeholder("Prefer").fill("wait=20")
    operation.get_by_role("button", name="Execute").click()
    response = operation.locator(".live-responses-table .response")
    expect(response.locator(".response-col_status")).to_have_text(re.compile("200"))
    body = json.loads(response.locator(".response-col_description code").first.inner_text())
    assert body["output"] == {"text": "a red circle on a grey background"}


def test_every_operation_is_shown(reader: Visitor) -> None:
    schema = httpx.get(f"{reader.served.address}/openapi.json").json()
    count = sum(len(operations) for operations in schema["paths"].values())
    expect(reader.page.locator(".opblock")).to_have_count(count)
