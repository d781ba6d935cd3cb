"""Redirects of paths with a trailing slash."""

from __future__ import annotations

from urllib.parse import urljoin

import httpx
import pytest

from .conftest import Reached

FORGED = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/jobs/", "/v1/jobs"),
        ("/v1/jobs/x/", "/v1/jobs/x"),
        ("/v1/jobs/x%2Fy/", None),
        ("/v1/jobs/a%20b/?q=http://evil.example/", "/v1/jobs/a%20b?q=http://evil.example/"),
        ("/v1/batches/x/results/?wait=true", "/v1/batches/x/results?wait=true"),
        ("/healthz/", "/healthz"),
        ("/metrics/?a=%0d%0aX:%20y", "/metrics?a=%0d%0aX:%20y"),
        ("/v1/jobs//", None),
        ("//evil.example/", None),
        ("//evil.example/healthz/", None),
        ("/none/", None),
    ],
)
def test_a_redirect_leads_to_the_same_host(gateway: Reached, path: str, target: str | None) -> None:
    http = gateway.client()
    url = httpx.URL(gateway.url).copy_with(raw_path=path.encode())
    answer = http.get(url, headers=FORGED)
    assert "evil.example" not in answer.headers.get("location", "").partition("?")[0]
    if target is None:
        assert answer.status_code == 404
        return
    assert answer.status_code == 307
    location = answer.headers["location"]
    assert location.startswith("../")
    assert urljoin(f"http://gateway{path}", location) == f"http://gateway{target}"
    # A proxy may serve the gateway under another path.
    assert urljoin(f"http://proxy/api{path}", location) == f"http://proxy/api{target}"
