"""Usage: the bytes counted for an account equal those that Redis stores for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import pytest

from producer import Client, InvalidInput, JobUnknown, StorageQuotaExceeded, contract
from producer.contract import ItemResult
from producer.gateway.settings import GatewaySettings
from producer.ledger import Leases, Ledger
from producer.ledger.chunk import DEFAULT_TOKENS, TEXT_BYTES, TOKEN_BYTES
from producer.ledger.ids import account_of, parse_chunk_id
from producer.ledger.records import UNLIMITED
from producer.ledger.script import SOURCE

from .jobs import KEYS, store_result

ACCOUNTS: Final = ("acme", "other")
IMAGES: Final = [bytes([n]) * (1000 + n) for n in range(6)]
ENTRY_BYTES: Final = 512
ITEM_RESULT_BYTES: Final = TEXT_BYTES + DEFAULT_TOKENS * TOKEN_BYTES
FAILED: Final[ItemResult] = contract.failure("internal", "x")

#: The script of a version that does not count.
UNCOUNTED: Final = (
    SOURCE.replace("\n  measure(id)\n", "\n")
    .replace("if account then release_for_account(account, sha, ttl_s) end", "")
    .replace("measure_due(IDLE_DUE_LIMIT)", "")
)


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(settings=GatewaySettings(redis_url=redis_url)) as client:
        yield client


def stored_bytes(connection: Any, account: str) -> int:
    """Return the bytes of an account's jobs and batches in Redis, counted from its keys."""
    names = [key.decode() for key in connection.scan_iter("*")]
    prefixes = {"job": KEYS.record(""), "result": KEYS.result(""), "note": KEYS.metadata("")}
    ids = {
        name.removeprefix(prefix)
        for prefix in prefixes.values()
        for name in names
        if name.startswith(prefix)
    }
    total = 0
    for job_id in ids:
        if account_of(job_id) == account:
            total += ENTRY_BYTES + connection.strlen(KEYS.record(job_id))
            total += connection.strlen(KEYS.result(job_id))
            total += field_bytes(connection, KEYS.metadata(job_id), "note", "digest", "webhook")
            if connection.zscore(KEYS.open, job_id) is not None:
                chunk = parse_chunk_id(job_id)
                total += ITEM_RESULT_BYTES * (items_in(connection, job_id) if chunk else 1)
    for name in names:
        batch = name.removeprefix(KEYS.batch(""))
        if batch != name and ":" not in batch and account_of(batch) == account:
            total += ENTRY_BYTES + connection.strlen(KEYS.done(batch))
            total += connection.strlen(KEYS.digests(batch))
            total += 8 * connection.llen(KEYS.ended(batch))
            total += 16 * connection.hlen(KEYS.failed(batch))
            total += field_bytes(connection, name, "options", "note", "webhook")
    return total


def field_bytes(connection: Any, key: str, *names: str) -> int:
    return sum(len(value or b"") for value in connection.hmget(key, *names))


def items_in(connection: Any, job_id: str) -> int:
    return int(connection.get(KEYS.record(job_id)).partition(b" ")[0])


def entries(connection: Any, account: str) -> dict[str, int]:
    """Return the counted bytes of an account, by entry."""
    counted: Any = connection.hgetall(KEYS.account_usage(account))
    return {name.decode(): int(numbers.split()[0]) for name, numbers in counted.items()}


def check(connection: Any) -> None:
    """Compare the counts with what Redis stores."""
    images: dict[str, int] = {}
    total = 0
    for account in ACCOUNTS:
        counted = entries(connection, account)
        total += sum(counted.values())
        assert sum(counted.values()) == Ledger(connection).stored_bytes(account)
        for kind in ("job", "batch"):
            index: Any = connection.zrange(KEYS.index(account, kind), 0, -1)
            start = f"{kind} {account}.{kind}."
            listed = {name.removeprefix(start) for name in counted if name.startswith(start)}
            assert {member.decode() for member in index} == listed
        own = {name[5:]: size for name, size in counted.items() if name.startswith("blob ")}
        assert sum(counted.values()) - sum(own.values()) == stored_bytes(connection, account)
        images |= own
    assert total == Ledger(connection).stored_bytes("*")
    stored = {key.decode()[-64:]: key for key in connection.scan_iter(KEYS.blob("*"))}
    assert images == {sha: ENTRY_BYTES + connection.strlen(key) for sha, key in stored.items()}


def pass_time(connection: Any, keys: list[bytes]) -> None:
    """Let keys expire, and the entries of all accounts become due."""
    if keys:
        connection.delete(*keys)
    for member in connection.zrange(KEYS.usage_due, 0, -1):
        connection.zadd(KEYS.usage_due, {member: 0})
    while connection.zcount(KEYS.usage_due, 0, 1):
        connection.delete(KEYS.sweeper)
        Leases(connection).sweep(0.001)


def mortal(connection: Any) -> list[bytes]:
    return [key for key in sorted(connection.scan_iter("*")) if connection.ttl(key) >= 0]


def test_counted_bytes_equal_stored_bytes_after_every_operation(
    client: Client, connection: Any
) -> None:
    """Random submissions, ends, retries, deletions and expiries; old workers; then all ends."""
    rng, ledger = Random(5), Ledger(connection)
    leases, old_leases = Leases(connection), Leases(connection)
    old_leases._script._script = connection.register_script(UNCOUNTED)
    # A script that is not loaded would be replaced by the present one.
    connection.script_load(UNCOUNTED)
    for number in range(120):
        account = rng.choice(ACCOUNTS)
        act = rng.randrange(9)
        open_ids = [key.decode() for key in connection.zrange(KEYS.open, 0, -1)]
        batches = [key.decode() for key in connection.scan_iter(KEYS.batch("*.batch.*"))]
        names = sorted(name for name in batches if name.count(":") == 2)
        if act == 0:
            client.upload(rng.choice(IMAGES), account=account)
        elif act == 1:
            job_id = f"{account}.job.{number}"
            client.submit(rng.choice(IMAGES), job_id=job_id, webhook="https://x/", note="n")
        elif act == 2:
            sources: list[Any] = [
                rng.choice([*IMAGES, "https://x/1.jpg"]) for _ in range(rng.randrange(5))
            ]
            client.submit_batch(sources, batch_id=f"{account}.batch.{number}", chunk_items=2)
        elif act < 6 and open_ids:
            job_id = rng.choice(open_ids)
            answers: list[ItemResult] = [FAILED, {"text": "x"}]
            results = [rng.choice(answers)] * items_in(connection, job_id)
            store_result(old_leases if act == 5 else leases, job_id, results)
        elif act == 6 and names:
            batch = client.batch(rng.choice(names).removeprefix(KEYS.batch("")))
            endings: list[Callable[[], object]] = [batch.retry_failed, batch.delete]
            rng.choice(endings)()
        elif act == 7 and open_ids:
            # A chunk is deleted only with its batch.
            job_id = rng.choice(open_ids)
            ledger.delete_jobs([] if parse_chunk_id(job_id) else [job_id])
        elif act == 8:
            keys = mortal(connection)
            pass_time(connection, rng.sample(keys, len(keys) // 4))
        if act == 5:
            pass_time(connection, [])
        check(connection)
    for job_id in connection.zrange(KEYS.open, 0, -1):
        store_result(leases, job_id.decode(), [FAILED] * items_in(connection, job_id.decode()))
    check(connection)
    pass_time(connection, mortal(connection))
    assert list(connection.scan_iter("*usage*")) == []
    assert list(connection.scan_iter(KEYS.blob("*"))) == []


def test_an_upload_that_never_arrives_stops_counting(connection: Any) -> None:
    Ledger(connection).announce("acme", {"0" * 64: 1000}, UNLIMITED)
    assert entries(connection, "acme") == {f"blob {'0' * 64}": 1512}
    (due,) = connection.zrange(KEYS.usage_due, 0, -1, withscores=True)
    assert due[1] - connection.time()[0] <= 121
    pass_time(connection, [])
    assert entries(connection, "acme") == {}


@pytest.mark.parametrize("account", ["", "acme", "anyone"])
def test_ids_without_an_account_are_not_counted(
    client: Client, leases: Leases, connection: Any, account: str
) -> None:
    client.submit_batch([IMAGES[0]], batch_id=f"{account}batch")
    job = client.caption(IMAGES[1])
    store_result(leases, job.id, [{"text": "x"}])
    assert list(connection.scan_iter("*usage*")) == []


def test_the_quota_of_an_account_limits_each_kind_of_data(
    redis_url: str, leases: Leases, connection: Any
) -> None:
    settings = GatewaySettings(redis_url=redis_url, gateway_quota_mb=1)
    image = b"x" * 900_000
    with Client(settings=settings) as client:
        client.upload(image, account="acme")
        refused = {
            "image": lambda: client.upload(b"y" * 200_000, account="acme"),
            "items": lambda: client.submit_batch(
                ({"text": "x" * 9000} for _ in range(20)),
                "embed",
                batch_id="acme.batch.1",
                when_full="raise",
            ),
            "results": lambda: client.submit_batch(
                ({"text": "x"} for _ in range(30)),
                "embed",
                batch_id="acme.batch.2",
                when_full="raise",
            ),
            "webhook": lambda: client.submit(
                {"image": "https://x/1.jpg"}, job_id="acme.job.1", note="x" * 200_000
            ),
        }
        for attempt in refused.values():
            with pytest.raises(
                StorageQuotaExceeded, match=r"acme .* 1 MiB \(BLIPLINE_GATEWAY_QUOTA_MB\)"
            ):
                attempt()
        # Neither what fits nor another account is affected.
        client.upload(image, account="acme")
        client.submit({"image": "https://x/1.jpg"}, job_id="acme.job.2")
        client.upload(b"y" * 900_000, account="other")
        # Deletion and expiry make room.
        pass_time(connection, list(connection.scan_iter(KEYS.blob("*"))))
        client.upload(b"y" * 200_000, account="acme")


def test_expired_entries_make_room_for_the_call_that_needs_it(
    redis_url: str, connection: Any
) -> None:
    settings = GatewaySettings(redis_url=redis_url, gateway_quota_mb=1, gateway_total_quota_mb=1)
    with Client(settings=settings) as client:
        client.upload(b"x" * 900_000, account="acme")
        with pytest.raises(StorageQuotaExceeded, match="BLIPLINE_GATEWAY_TOTAL_QUOTA_MB"):
            client.upload(b"y" * 900_000, account="other")
        connection.delete(*connection.scan_iter(KEYS.blob("*")))
        connection.zadd(KEYS.usage_due, {connection.zrange(KEYS.usage_due, 0, 0)[0]: 0})
        client.upload(b"y" * 900_000, account="other")


def test_a_job_names_only_images_that_its_account_uploaded(client: Client, connection: Any) -> None:
    reference = client.upload(IMAGES[0], account="acme")
    plain = client.upload(IMAGES[1])
    never = "blob:" + hashlib.sha256(b"never").hexdigest()
    errors = set()
    for image in (reference, plain, never):
        with pytest.raises(InvalidInput, match="you have not uploaded it") as caught:
            client.submit({"image": image}, job_id="other.job.1")
        errors.add(str(caught.value).replace(image, ""))
        batch = client.submit_batch([image], batch_id=f"other.batch.{image[-3:]}")
        (record,) = Ledger(connection).records([f"{batch.id}:0"])
        assert record is not None
        assert record.blobs == ()
        assert '"code":"image_unreachable"' in record.payload
    # Nothing reveals whether another account has uploaded it.
    assert len(errors) == 1
    client.submit({"image": reference}, job_id="acme.job.1")
    # Whoever has the bytes may name them, and Redis stores them once.
    client.upload(IMAGES[0], account="other")
    client.submit({"image": reference}, job_id="other.job.1")
    # Clients of Redis itself have no accounts.
    client.submit({"image": reference})


def test_an_image_is_the_account_s_own_only_as_long_as_it_is_kept_for_it(
    client: Client, leases: Leases, connection: Any
) -> None:
    reference = client.upload(IMAGES[0], account="acme")
    client.upload(IMAGES[0], account="other")
    client.submit({"image": reference}, job_id="acme.job.1")
    client.submit({"image": reference}, job_id="other.job.1")
    store_result(leases, "acme.job.1", [{"text": "x"}])
    member = f"acme blob {reference.removeprefix('blob:')}"
    entry = connection.hget(KEYS.account_usage("acme"), member.partition(" ")[2])
    assert entry is not None
    # The minute after its last job has passed.
    expired = b" ".join([*entry.split()[:2], b"1"])
    connection.hset(KEYS.account_usage("acme"), member.partition(" ")[2], expired)
    pass_time(connection, [])
    with pytest.raises(InvalidInput):
        client.submit({"image": reference}, job_id="acme.job.2")
    assert connection.exists(KEYS.blob(reference))


def test_a_deleted_batch_stays_deleted(client: Client, connection: Any) -> None:
    batch = client.submit_batch([], batch_id="acme.batch.empty", webhook="https://x/" + "y" * 900)
    assert Ledger(connection).stored_bytes("acme") > 900
    batch.delete()
    assert Ledger(connection).stored_bytes("acme") == 0
    with pytest.raises(JobUnknown):
        batch.progress()


def test_a_batch_that_breaks_off_without_items_counts_nothing(
    client: Client, connection: Any
) -> None:
    def broken() -> Iterator[str]:
        raise OSError("the line is dead")
        yield ""

    with pytest.raises(OSError, match="dead"):
        client.submit_batch(broken(), batch_id="acme.batch.broken", note="x" * 900)
    assert Ledger(connection).stored_bytes("acme") == 0
