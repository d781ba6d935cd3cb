"""Metrics of a running system, and Prometheus that reads them."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.settings import DEMO_MODEL
from producer import Client
from tests.monitoring import expressions, promtool, running_prometheus, samples
from tests.system.conftest import Stack
from tests.system.reference import noise

#: Absent on this system: Redis without `maxmemory`.
ABSENT = "blipline_redis_memory_limit_bytes"


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def worker_url(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.metrics_port}/metrics"


def run_batch(user: Client, seed: int, images: Sequence[bytes] = ()) -> int:
    """Run a batch with images that recur, and an invalid item; return its valid items."""
    images = [*(images or [noise() for _ in range(4)])] * 3
    items: list[dict[str, Any]] = [*({"image": data} for data in images), {"image": ""}]
    batch = user.submit_batch(items, max_new_tokens=6 + seed)
    assert len(list(batch.results(timeout=120))) == len(images) + 1
    return len(images)


def test_a_scrape_shows_items_by_task_queue_and_code_and_cache_hits(
    user: Client, worker_url: str
) -> None:
    before = samples(worker_url)
    images = [noise() for _ in range(4)]
    valid = run_batch(user, 0, images)
    run_batch(user, 0, images)
    user.ask(noise(), "what shape is it?").result(timeout=60)

    exact = {
        "blipline_worker_items_total ok bulk caption": 2 * valid,
        "blipline_worker_items_total option_invalid bulk caption": 2,
        "blipline_worker_items_total ok interactive vqa": 1,
        "blipline_worker_queue_seconds_count bulk": 2,
        "blipline_worker_answer_seconds_count interactive": 1,
    }
    at_least = {
        "blipline_worker_answer_cache_lookups_total hit": valid,
        "blipline_worker_image_decode_seconds_count": 1,
        "blipline_engine_answers_total": 2,
        "blipline_engine_first_token_seconds_count": 2,
    }
    now: dict[str, float] = {}

    def added(name: str) -> float:
        return now.get(name, 0) - before.get(name, 0)

    def is_counted() -> bool:
        now.update(samples(worker_url))
        counted = all(added(name) >= minimum for name, minimum in {**exact, **at_least}.items())
        steps = [added(f"blipline_engine_step_{unit}_count") for unit in ("seconds", "rows")]
        return counted and steps[0] == steps[1] > 0

    # The engine publishes its counts each second, a consumer its histograms each five seconds.
    wait_for(is_counted)
    assert {name: added(name) for name in exact} == exact
    assert now["blipline_worker_ready"] == 1
    assert now[f"blipline_engine_model_info {DEMO_MODEL}"] == 1


def test_the_names_are_those_that_prometheus_recommends(
    worker_url: str, gateway: httpx.Client, user: Client
) -> None:
    run_batch(user, 1)
    for url in (worker_url, str(gateway.base_url.join("/metrics"))):
        with urllib.request.urlopen(url, timeout=30) as response:
            checked = promtool("check", "metrics", stdin=response.read().decode())
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_answers_each_query_of_the_dashboard_and_the_alerts(
    stack: Stack, gateway: httpx.Client, user: Client, tmp_path: Path
) -> None:
    targets = {
        "blipline-worker": f"127.0.0.1:{stack.metrics_port}",
        "blipline-gateway": f"{gateway.base_url.host}:{gateway.base_url.port}",
    }
    with running_prometheus(tmp_path, targets) as url, httpx.Client(base_url=url) as prometheus:

        def query(expression: str) -> list[object]:
            answer = prometheus.get("/api/v1/query", params={"query": expression})
            assert answer.status_code == 200, f"{expression}: {answer.text}"
            result: list[object] = answer.json()["data"]["result"]
            return result

        def reads_both() -> bool:
            return len(query("up == 1")) == 2

        wait_for(reads_both)
        for seed in (2, 3):
            run_batch(user, seed)
            gateway.get("/v1/queues")
            time.sleep(2)
        names = {
            re.sub(r"\s*\{[^}]*\}", "", name)
            for expression in expressions()
            for name in re.findall(r"blipline_\w+", expression)
        }
        missing = {name for name in names if not query(name)}
        assert missing <= {ABSENT, "blipline_gateway_webhooks_total"}
        for expression in expressions():
            query(expression)
        assert query("sum(rate(blipline_worker_items_total[1m])) > 0")
        assert query("histogram_quantile(0.5, sum by (le) (blipline_engine_step_seconds_bucket))")

        def rules() -> list[dict[str, str]]:
            groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
            return [rule for group in groups for rule in group["rules"]]

        wait_for(lambda: all(rule["health"] != "unknown" for rule in rules()))
        assert {rule["health"] for rule in rules()} == {"ok"}
