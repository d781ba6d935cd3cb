"""The `Prefer` header."""

from __future__ import annotations

import pytest

from producer.gateway.prefer import wait_s


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
        # The first one counts.
        (["wait=5, wait=7"], 5),
        (["wait=0"], 0),
        (["wait=0000000000005"], 5),
        (["wait=61"], 60),
        (["wait=" + "9" * 5000], 60),
        (["wait"], None),
        (["wait="], None),
        (["wait=-5"], None),
        (["wait=1.5"], None),
        (["wait=\u0665"], None),
        (["await=5"], None),
        (['"' * 5000], None),
        (["=," * 5000 + "wait=5"], 5),
    ],
)
def test_a_wait_is_read_as_the_rfc_has_it(headers: list[str], seconds: int | None) -> None:
    assert wait_s(headers, 60) == seconds
