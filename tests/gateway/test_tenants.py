"""Whose request it is."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.gateway.tenants import Caller, outer_of, owner_of


@pytest.mark.parametrize("name", ["a", "acme", "a-b", "0" * 32])
def test_ids_inside_begin_with_the_name_and_fit(name: str) -> None:
    caller, outer = Caller(name), "x.y-z_" + "0" * 58
    assert caller.job(outer) == f"{name}.job.{outer}"
    assert outer_of(caller.batch(outer)) == outer
    assert len(caller.batch(outer)) <= 128


@pytest.mark.parametrize(
    "outer", ["", ".", "..", ".x", "-x", "_x", "0" * 65, "a/b", "a b", "é", "a\n"]
)
def test_other_ids_are_refused(outer: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 letters"):
        Caller("acme").job(outer)


@pytest.mark.parametrize(
    ("inner", "kind", "owner"),
    [
        ("acme.job.x", "job", "acme"),
        ("acme.batch.x.y", "batch", "acme"),
        ("acme.batch.x", "job", ""),
        ("acme.x", "job", ""),
        ("x", "job", ""),
    ],
)
def test_an_id_inside_says_whose_it_is(inner: str, kind: str, owner: str) -> None:
    assert owner_of(inner, kind) == owner
