"""Metrics of several processes at one port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from demo.stack import free_port
from worker.metrics.shared_metrics import MetricsUnavailable, SharedMetrics

#: A child that counts an item and a step, and dies without closing anything.
CHILD = """
import os
from producer.contract import Queue, Task
from worker.consumer.metrics import ConsumerMetrics
from worker.engine.metrics import EngineMetrics
from worker.engine.stats import EngineStats
from worker.metrics.shared_metrics import join_shared_metrics

join_shared_metrics()
consumer, engine = ConsumerMetrics(), EngineMetrics()
consumer.end_job(Task.CAPTION, Queue.BULK, [{"text": "a cat"}] * 3, None, 0.1)
engine.step_seconds.observe(0.02)
engine.publish(EngineStats(steps=5, active=7))
os._exit(0)
"""


def scrape(port: int) -> dict[str, float]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read().decode()
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if (value := sample.value) is not None
    }


def run_child(metrics: SharedMetrics, process: str) -> None:
    environment = {**os.environ, **ENVIRONMENTS[process]}
    subprocess.run([sys.executable, "-c", CHILD], env=environment, check=True, timeout=60)


ENVIRONMENTS: dict[str, dict[str, str]] = {}


def started(run_dir: Path, port: int, *processes: str) -> SharedMetrics:
    metrics = SharedMetrics(run_dir, port)
    for process in processes:
        ENVIRONMENTS[process] = dict(metrics.environment(process))
    metrics.serve()
    return metrics


def test_counters_of_all_processes_add_up_and_outlive_them(tmp_path: Path) -> None:
    port = free_port()
    metrics = started(tmp_path, port, "engine", "bulk")
    for process in ("engine", "bulk", "engine"):
        run_child(metrics, process)
    samples = scrape(port)
    assert samples["blipline_worker_items_total ok bulk caption"] == 9
    assert samples["blipline_engine_steps_total"] == 15
    assert samples["blipline_engine_step_seconds_count"] == 3
    assert samples["blipline_worker_process_restarts_total engine"] == 0


def test_gauges_of_a_dead_process_are_gone_and_its_counters_stay(tmp_path: Path) -> None:
    port = free_port()
    metrics = started(tmp_path, port, "engine", "bulk")
    run_child(metrics, "engine")
    assert scrape(port)["blipline_engine_active_rows"] == 7
    metrics.record_death("engine")
    samples = scrape(port)
    assert "blipline_engine_active_rows" not in samples
    assert samples["blipline_engine_steps_total"] == 5
    assert samples["blipline_worker_process_restarts_total engine"] == 1
    run_child(metrics, "engine")
    assert scrape(port)["blipline_engine_active_rows"] == 7


def test_restarts_do_not_multiply_the_files(tmp_path: Path) -> None:
    metrics = started(tmp_path, free_port(), "engine")
    for _ in range(3):
        run_child(metrics, "engine")
        metrics.record_death("engine")
    assert len(list(tmp_path.rglob("*.db"))) == 3
    metrics.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "metrics-1"
    old.mkdir()
    started(tmp_path, free_port(), "engine")
    assert not old.exists()


def test_no_port_means_no_files(tmp_path: Path) -> None:
    metrics = SharedMetrics(tmp_path, 0)
    assert metrics.environment("engine") == {}
    metrics.serve()
    metrics.set_ready(True)
    metrics.record_death("engine")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(MetricsUnavailable, match=f"BLIPLINE_METRICS_PORT={port}: .*in use"):
            started(tmp_path, port, "engine")
