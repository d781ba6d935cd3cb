"""HTTP to hosts that somebody else named; the rest of it is in tests/images/test_fetcher.py."""

from __future__ import annotations

import pytest

from producer.net.http_client import host_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/a?b", "example.com"),
        # One host, however it is written: it has one share.
        ("https://EXAMPLE.com.:8443/", "example.com"),
        ("http://[::1]/", "::1"),
        ("file:cat.jpg", ""),
        ("http://", ""),
        ("http://x:port/", ""),
    ],
)
def test_the_host_that_a_url_names(url: str, host: str) -> None:
    assert host_of(url) == host
