"""The `Prefer` header."""

from __future__ import annotations

import pytest

from producer.gateway.http import prefer_header
from producer.gateway.http.prefer_header import wait_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["WAIT=5"], 5),
        (["wait = 5"], 5),
        (['wait="5"'], 5),
        (["wait=5; more=1"], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (['other="a, wait=7", wait=5'], 5),
        # The first counts.
        (["wait=5, wait=7"], 5),
        (["wait=0"], 0),
        (["wait=0000000000005"], 5),
        (["wait=61"], 60),
        (["wait=" + "9" * 250], 60),
        (["wait"], None),
        (["wait="], None),
        (["wait=-5"], None),
        (["wait=1.5"], None),
        (["wait=\u0665"], None),
        (["await=5"], None),
        (['"' * 255], None),
        (['"a, wait=5'], None),
        (["=," * 100 + "wait=5"], 5),
        # A header of this length is ignored.
        (["wait=5" + " " * 251], None),
        (["wait=5" + " " * 251, "wait=7"], 7),
    ],
)
def test_a_wait_is_parsed_according_to_the_rfc(headers: list[str], seconds: int | None) -> None:
    assert wait_s(headers, 60) == seconds


def test_no_header_takes_long_to_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefer_header, "MAX_CHARS", 2**20)
    for header in ("wait=" + " " * 30_000 + 'x"', '"' * 30_001, '"\\' * 30_000, "a" * 30_000 + '"'):
        # With backtracking each of them would exceed the time limit of a test.
        assert wait_s([header + "," + header] * 30, 60) is None
