"""Hosts of URLs; tests/images/test_ssrf.py and test_http.py test the guarded client."""

from __future__ import annotations

import pytest

from producer.net.http_client import host_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/a?b", "example.com"),
        # All spellings of a host share its limit.
        ("https://EXAMPLE.com.:8443/", "example.com"),
        ("http://[::1]/", "::1"),
        ("file:cat.jpg", ""),
        ("http://", ""),
        ("http://x:port/", ""),
    ],
)
def test_host_of_returns_the_host_of_a_url(url: str, host: str) -> None:
    assert host_of(url) == host
