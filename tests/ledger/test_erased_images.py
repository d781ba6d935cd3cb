"""Uploaded images of erased jobs: they go with the last job and name that need them."""

from __future__ import annotations

from typing import Any, Final

import pytest

from producer import Client, InvalidInput, contract
from producer.contract import ItemResult
from producer.ledger import Leases, Ledger, blobs

from .jobs import KEYS, store_result

IMAGE: Final = b"\xff\xd8" * 500
REFERENCE: Final = blobs.reference_of(IMAGE)
ENDS: Final[dict[str, list[ItemResult] | None]] = {
    "queued": None,
    "done": [{"text": "a cat"}],
    "failed": [contract.failure("internal", "x")],
}


def kept_images(connection: Any) -> int:
    return len(list(connection.scan_iter(KEYS.blob("*"))))


def submit(client: Client, leases: Leases, job_id: str, end: str = "queued") -> None:
    client.submit(IMAGE, job_id=job_id)
    if (results := ENDS[end]) is not None:
        store_result(leases, job_id, results)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("prefix", ["acme.job.", ""])
def test_an_erased_job_takes_its_image_along(
    client: Client, leases: Leases, connection: Any, prefix: str, end: str
) -> None:
    submit(client, leases, f"{prefix}1", end)
    assert kept_images(connection) == 1
    client.job(f"{prefix}1").delete()
    assert kept_images(connection) == 0
    assert list(connection.scan_iter("*usage*")) == []
    assert list(connection.scan_iter("*images-of*")) == []
    submit(client, leases, f"{prefix}1")
    assert kept_images(connection) == 1


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("second_id", ["acme.job.2", "other.job.2", "2"])
def test_an_image_stays_for_other_open_jobs_and_other_names(
    client: Client, leases: Leases, connection: Any, second_id: str, end: str
) -> None:
    submit(client, leases, "acme.job.1", end)
    submit(client, leases, second_id)
    client.job("acme.job.1").delete()
    assert kept_images(connection) == 1
    store_result(leases, second_id, [{"text": "a cat"}])
    client.job(second_id).delete()
    assert kept_images(connection) == 0


def test_an_image_that_another_name_has_uploaded_stays_for_it(
    client: Client, leases: Leases, connection: Any
) -> None:
    submit(client, leases, "acme.job.1", "done")
    submit(client, leases, "other.job.1", "failed")
    client.job("acme.job.1").delete()
    assert kept_images(connection) == 1
    with pytest.raises(InvalidInput, match="upload it"):
        client.submit({"image": REFERENCE}, job_id="acme.job.2")
    client.submit({"image": REFERENCE}, job_id="other.job.2")


@pytest.mark.parametrize("account", ["acme", ""])
def test_an_image_whose_job_is_about_to_be_enqueued_stays(
    client: Client, leases: Leases, connection: Any, account: str
) -> None:
    submit(client, leases, "acme.job.1", "done")
    assert client.upload(IMAGE, account=account) == REFERENCE
    client.job("acme.job.1").delete()
    assert kept_images(connection) == 1
    prefix = f"{account}.job." if account else ""
    client.submit({"image": REFERENCE}, job_id=f"{prefix}2")
    assert not connection.exists(KEYS.awaited_blob(REFERENCE.removeprefix("blob:")))


def test_the_next_job_of_the_name_gets_the_error_of_a_missing_image(
    client: Client, leases: Leases
) -> None:
    submit(client, leases, "acme.job.1", "done")
    client.job("acme.job.1").delete()
    with pytest.raises(InvalidInput, match="or it has expired: upload it"):
        client.submit({"image": REFERENCE}, job_id="acme.job.2")


@pytest.mark.parametrize("keep_cached", [True, False])
def test_a_batch_that_only_makes_room_leaves_its_images(
    client: Client, leases: Leases, connection: Any, keep_cached: bool
) -> None:
    images = [bytes([number]) * 100 for number in range(5)]
    batch = client.submit_batch(images, batch_id="acme.batch.b", chunk_items=2)
    store_result(leases, f"{batch.id}:0", [{"text": "a"}] * 2)
    batch.delete(keep_cached=keep_cached)
    assert kept_images(connection) == (5 if keep_cached else 0)


def test_images_of_a_job_among_very_many_names_expire(
    client: Client, leases: Leases, connection: Any
) -> None:
    submit(client, leases, "acme.job.1")
    connection.hset(KEYS.usage, mapping={f"name-{number}": 1 for number in range(17_000)})
    client.job("acme.job.1").delete()
    assert 0 < connection.ttl(KEYS.blob(REFERENCE)) <= contract.BLOB_TTL_S
    assert Ledger(connection).depth().blob_bytes == 0
