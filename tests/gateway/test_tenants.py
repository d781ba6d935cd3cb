"""Tenants and their inner ids."""

from __future__ import annotations

import pytest

from producer.errors import InvalidInput
from producer.gateway.access.tenants import Tenant, public_id_of, tenant_of


@pytest.mark.parametrize("name", ["a", "acme", "a-b", "0" * 32])
def test_inner_ids_begin_with_the_name(name: str) -> None:
    tenant, public_id = Tenant(name), "x.y-z_" + "0" * 58
    assert tenant.job_id(public_id) == f"{name}.job.{public_id}"
    assert public_id_of(tenant.batch_id(public_id)) == public_id
    assert len(tenant.batch_id(public_id)) <= 128


@pytest.mark.parametrize(
    "public_id", ["", ".", "..", ".x", "-x", "_x", "0" * 65, "a/b", "a b", "é", "a\n"]
)
def test_invalid_public_ids_are_rejected(public_id: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 64 letters"):
        Tenant("acme").job_id(public_id)


@pytest.mark.parametrize(
    ("inner", "kind", "tenant_name"),
    [
        ("acme.job.x", "job", "acme"),
        ("acme.batch.x.y", "batch", "acme"),
        ("acme.batch.x", "job", ""),
        ("acme.x", "job", ""),
        ("x", "job", ""),
    ],
)
def test_an_inner_id_identifies_its_tenant(inner: str, kind: str, tenant_name: str) -> None:
    assert tenant_of(inner, kind) == tenant_name
