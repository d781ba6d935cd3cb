"""Daily quotas of API keys: items and bytes, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
import redis
from starlette.types import Message, Receive, Scope, Send

from demo.stack import running_redis
from producer.aio.thread_pools import ThreadPools
from producer.gateway.access.api_keys import ApiKeys, key_id_of
from producer.gateway.access.body_quota import BodyQuotaMiddleware
from producer.gateway.access.daily_quotas import DailyQuotas, QuotaUnit
from producer.gateway.access.key_policy import KeyPolicy
from producer.gateway.access.quota_meter import (
    BLOCKS,
    DailyQuotaExceeded,
    QuotaMeter,
    counted_item,
)
from producer.gateway.access.tenants import Tenant
from producer.gateway.http.problems import Problem
from producer.gateway.http.redis_calls import RedisCalls
from producer.ledger.keys import Keys

from .conftest import Reached
from .samples import CAPTION, JSONL, batches_in, bearer, body_of, items_in

DAY_S = 86_400
#: Returns a client with a key of these limits, and a function that returns what the key has used.
Limited = Callable[[KeyPolicy], tuple[httpx.Client, Callable[[QuotaUnit], int]]]


@pytest.fixture
def quotas(connection: redis.Redis, redis_url: str) -> DailyQuotas:
    return DailyQuotas(connection, Keys(), redis_url)


@pytest.fixture
def limited(gateway: Reached, connection: redis.Redis, quotas: DailyQuotas) -> Limited:
    def connect(policy: KeyPolicy) -> tuple[httpx.Client, Callable[[QuotaUnit], int]]:
        key = ApiKeys(connection).create("acme", policy)
        http = gateway.client()
        http.headers.update(bearer(key))
        return http, lambda unit: quotas.take(key_id_of(key) or "", unit, 0)[1]

    return connect


def check_problem(answer: httpx.Response, amount: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (429, "daily_quota_exceeded"), problem
    assert f"This API key has used its {amount} of today" in problem["detail"]
    assert "`blipline keys limit`" in problem["detail"]
    assert 0 < int(answer.headers["Retry-After"]) <= DAY_S


def test_jobs_of_all_routes_count_until_the_quota_is_used_up(limited: Limited) -> None:
    http, used = limited(KeyPolicy(items_per_day=2))
    assert http.post("/v1/jobs", json={**CAPTION, "image": "ftp//"}).status_code == 422
    assert used("items") == 0
    assert http.post("/v1/jobs", json=CAPTION).status_code == 202
    wait = {"Prefer": "wait=0"}
    fields = {"image": CAPTION["image"]}
    assert http.post("/v1/caption", json=fields, headers=wait).status_code == 202
    for path, body in (("/v1/jobs", CAPTION), ("/v1/caption", fields)):
        check_problem(http.post(path, json=body, headers=wait), "2 items")
    assert used("items") == 2
    assert http.get("/v1/jobs").status_code == 200


def test_a_job_that_is_refused_does_not_count(limited: Limited) -> None:
    http, used = limited(KeyPolicy(items_per_day=5))
    assert http.put("/v1/jobs/x", json=CAPTION).status_code == 202
    assert http.put("/v1/jobs/x", json={**CAPTION, "prompt": "a"}).status_code == 409
    assert used("items") == 1


def test_a_batch_continues_when_there_is_a_quota_again(
    limited: Limited, connection: redis.Redis, redis_url: str, quotas: DailyQuotas
) -> None:
    http, used = limited(KeyPolicy(items_per_day=70))

    def upload() -> httpx.Response:
        return http.post("/v1/batches?id=large", content=body_of(100), headers=JSONL)

    answer = upload()
    check_problem(answer, "70 items")
    # Only whole chunks of 32 items are submitted.
    assert "Batch large has 64 items; repeat the upload with id=large" in answer.json()["detail"]
    assert (len(items_in(redis_url, "large")), used("items")) == (64, 64)
    (name,) = connection.keys("*daily-usage*")
    connection.hset(name, "day", "20000")
    assert used("items") == 0
    assert upload().json()["request_counts"]["total"] == 100
    assert (len(items_in(redis_url, "large")), used("items")) == (100, 36)
    assert upload().status_code == 202
    assert used("items") == 36


def test_a_batch_without_an_id_is_kept_under_the_id_of_the_problem(limited: Limited) -> None:
    http, used = limited(KeyPolicy(items_per_day=40))
    answer = http.post("/v1/batches", content=body_of(50), headers=JSONL)
    check_problem(answer, "40 items")
    public_id = answer.json()["detail"].rpartition("id=")[2].split()[0]
    assert http.get(f"/v1/batches/{public_id}").json()["request_counts"]["total"] == 32
    assert used("items") == 32


def test_a_batch_below_one_chunk_leaves_nothing(limited: Limited, connection: redis.Redis) -> None:
    http, used = limited(KeyPolicy(items_per_day=10))
    answer = http.post("/v1/batches?id=small", content=body_of(20), headers=JSONL)
    check_problem(answer, "10 items")
    assert answer.json()["detail"].endswith("No items are kept")
    assert (batches_in(connection), used("items")) == ([], 0)
    assert http.post("/v1/batches", content=body_of(10), headers=JSONL).status_code == 202
    assert used("items") == 10


def test_bytes_of_bodies_count_until_the_quota_is_used_up(limited: Limited) -> None:
    http, used = limited(KeyPolicy(mb_per_day=1))
    image = bytes(300_000)
    answers = [http.post("/v1/images", content=image + bytes([n])) for n in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    check_problem(answers[3], "1 MiB")
    assert used("bytes") >= 3 * 300_001
    assert http.get("/v1/queues").status_code == 200


def test_a_batch_whose_body_exceeds_the_quota_keeps_its_chunks(limited: Limited) -> None:
    http, used = limited(KeyPolicy(mb_per_day=1))
    answer = http.post("/v1/batches?id=bytes", content=body_of(20_000), headers=JSONL)
    check_problem(answer, "1 MiB")
    total = http.get("/v1/batches/bytes").json()["request_counts"]["total"]
    assert 32 <= total < 20_000
    assert f"Batch bytes has {total:,} items; repeat the upload" in answer.json()["detail"]
    assert used("bytes") <= 1 << 20


def test_other_keys_of_a_name_have_quotas_of_their_own(limited: Limited) -> None:
    for _ in range(2):
        http, used = limited(KeyPolicy(items_per_day=1, mb_per_day=1))
        assert http.post("/v1/jobs", json=CAPTION).status_code == 202
        assert used("items") == 1


@pytest.mark.parametrize("unit", ["items", "bytes"])
def test_a_meter_never_exceeds_its_limit_and_returns_the_rest(
    quotas: DailyQuotas, unit: QuotaUnit
) -> None:
    limit = BLOCKS[unit] * 2 + 5
    meters = [QuotaMeter(quotas, "key", unit, limit) for _ in range(2)]
    for meter in meters:
        meter.count(1)
    assert quotas.take("key", unit, 0)[1] == 2
    for meter in meters:
        meter.settle()
    assert quotas.take("key", unit, 0)[1] == 2
    meters[0].count(limit - 2)
    with pytest.raises(DailyQuotaExceeded):
        meters[1].count(1)
    meters[1].settle()
    meters[0].settle(0)
    assert quotas.take("key", unit, 0)[1] == 2


@pytest.mark.parametrize("unit", ["items", "bytes"])
def test_a_request_takes_ahead_at_most_what_it_has_used(
    quotas: DailyQuotas, unit: QuotaUnit
) -> None:
    amount, counted = max(1, BLOCKS[unit] // 16), 0
    meter = QuotaMeter(quotas, "key", unit, 100 * BLOCKS[unit])
    for _ in range(100):
        meter.count(amount)
        counted += amount
        surplus = quotas.take("key", unit, 0)[1] - counted
        assert 0 <= surplus <= min(counted, BLOCKS[unit])


def test_requests_within_the_quota_pass_at_the_same_time(quotas: DailyQuotas) -> None:
    meters = [QuotaMeter(quotas, "key", "items", 5) for _ in range(5)]
    for meter in meters:
        meter.count(1)
    with pytest.raises(DailyQuotaExceeded):
        QuotaMeter(quotas, "key", "items", 5).count(1)


def test_an_outage_after_a_request_leaves_its_response(caplog: pytest.LogCaptureFixture) -> None:
    tenant = Tenant("acme", "key", KeyPolicy(items_per_day=9, mb_per_day=9))
    with running_redis() as url, redis.Redis.from_url(url) as connection:
        quotas = DailyQuotas(connection, Keys(), url)
        sent: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(3):
                await receive()
            async with counted_item(quotas, calls, tenant):
                connection.shutdown(nosave=True)
                await send({"type": "http.response.start", "status": 202})
                raise Problem("not_found", "no image")

        async def receive() -> Message:
            return {"type": "http.request", "body": bytes(1000), "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        async def request() -> None:
            await BodyQuotaMiddleware(app, quotas, calls)(
                {"type": "http", "state": {"tenant": tenant}}, receive, send
            )

        calls = RedisCalls(ThreadPools(), url)
        with pytest.raises(Problem, match="no image"):
            asyncio.run(request())
    assert [message.get("status") for message in sent] == [202]
    assert caplog.text.count("remains taken until midnight") == 2


def test_an_amount_larger_than_the_rest_is_refused_as_a_whole(quotas: DailyQuotas) -> None:
    meter = QuotaMeter(quotas, "key", "items", 3)
    with pytest.raises(DailyQuotaExceeded):
        meter.count(4)
    meter.settle()
    assert quotas.take("key", "items", 0)[1] == 0


def test_counts_expire(quotas: DailyQuotas, connection: redis.Redis) -> None:
    quotas.take("key", "items", 1, 5)
    assert 0 < connection.ttl(Keys().daily_usage("key")) <= 2 * DAY_S
