"""Whose request it is."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.gateway.tenants import Tenant, public_id_of, tenant_of


@pytest.mark.parametrize("name", ["a", "acme", "a-b", "0" * 32])
def test_ids_inside_begin_with_the_name_and_fit(name: str) -> None:
    caller, outer = Tenant(name), "x.y-z_" + "0" * 58
    assert caller.job_id(outer) == f"{name}.job.{outer}"
    assert public_id_of(caller.batch_id(outer)) == outer
    assert len(caller.batch_id(outer)) <= 128


@pytest.mark.parametrize(
    "outer", ["", ".", "..", ".x", "-x", "_x", "0" * 65, "a/b", "a b", "é", "a\n"]
)
def test_other_ids_are_refused(outer: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 letters"):
        Tenant("acme").job_id(outer)


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
    assert tenant_of(inner, kind) == owner
