"""References that workers read with their own rights: denied by a setting or for a key."""

from __future__ import annotations

import httpx
import redis

from producer.gateway.access.api_keys import ApiKeys
from producer.gateway.access.key_policy import KeyPolicy

from .conftest import Reached, Run
from .samples import CAPTION, JSONL, bearer, items_in

REFERENCES = ("file:cat.jpg", "s3://bucket/cat.jpg")


def codes(http: httpx.Client, redis_url: str, batch: str) -> set[str]:
    """Return the outcomes of all references, as jobs and as items of a batch."""
    answers = [http.post("/v1/jobs", json={**CAPTION, "image": image}) for image in REFERENCES]
    lines = "".join(f'{{"image": "{image}"}}\n' for image in REFERENCES)
    assert http.post("/v1/batches", params={"id": batch}, content=lines, headers=JSONL).is_success
    items = [item.get("error", {}).get("code", "accepted") for item in items_in(redis_url, batch)]
    return {answer.json().get("code", "accepted") for answer in answers} | {*items}


def test_a_setting_denies_them_to_all(run_gateway: Run, redis_url: str) -> None:
    gateway = run_gateway(BLIPLINE_GATEWAY_PRIVATE_IMAGES="false")
    assert codes(gateway.client(), redis_url, "denied") == {"image_blocked"}


def test_a_key_denies_them_to_its_requests(
    gateway: Reached, redis_url: str, connection: redis.Redis
) -> None:
    key = ApiKeys(connection).create("acme", KeyPolicy(image_prefixes=()))
    http = gateway.client()
    assert codes(http, redis_url, "of-one-key") == {"accepted"}
    http.headers.update(bearer(key))
    assert codes(http, redis_url, "of-another-key") == {"image_blocked"}
