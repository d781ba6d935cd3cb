"""The page of the API's documentation, without a browser."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.gateway.conftest import Reached

PAGE = "/docs"


@pytest.fixture
def page(gateway: Reached) -> httpx.Response:
    return httpx.get(f"{gateway.url}{PAGE}")


def test_it_needs_no_key_and_runs_only_the_gateways_own_scripts(page: httpx.Response) -> None:
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert page.headers["X-Frame-Options"] == "DENY"


def test_its_files_are_relative_and_served_by_the_gateway(
    gateway: Reached, page: httpx.Response
) -> None:
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    local = [file for file in files if not file.startswith("data:")]
    assert len(local) == 3
    for file in local:
        assert not file.startswith(("/", "http"))
        answer = httpx.get(f"{gateway.url}/{file}")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"].startswith("public")
        assert answer.headers["Content-Type"].startswith(("text/css", "text/javascript"))
