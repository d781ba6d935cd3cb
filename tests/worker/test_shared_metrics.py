"""Metrics of several processes, also of several devices, at one port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.stack import free_port
from tests.monitoring import samples
from worker.metrics.metrics_server import MetricsServer
from worker.metrics.shared_metrics import SUPERVISOR, MetricsUnavailable, SharedMetrics

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
    return samples(f"http://127.0.0.1:{port}/metrics")


def run_child(process: str, program: str = CHILD) -> None:
    environment = {**os.environ, **ENVIRONMENTS[process]}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


ENVIRONMENTS: dict[str, dict[str, str]] = {}


def started(run_dir: Path, port: int, *processes: str) -> SharedMetrics:
    server = MetricsServer(run_dir, port)
    metrics = SharedMetrics(server.directory)
    for process in processes:
        ENVIRONMENTS[process] = dict(metrics.environment(process))
    server.serve({"": metrics})
    return metrics


def test_counters_of_all_processes_add_up_and_outlive_them(tmp_path: Path) -> None:
    port = free_port()
    started(tmp_path, port, "engine", "bulk")
    for process in ("engine", "bulk", "engine"):
        run_child(process)
    samples = scrape(port)
    assert samples["blipline_worker_items_total ok bulk caption"] == 9
    assert samples["blipline_engine_steps_total"] == 15
    assert samples["blipline_engine_step_seconds_count"] == 3
    assert samples["blipline_worker_process_restarts_total engine"] == 0


def test_gauges_of_a_dead_process_are_gone_and_its_counters_stay(tmp_path: Path) -> None:
    port = free_port()
    metrics = started(tmp_path, port, "engine", "bulk")
    run_child("engine")
    assert scrape(port)["blipline_engine_active_rows"] == 7
    metrics.record_death("engine")
    samples = scrape(port)
    assert "blipline_engine_active_rows" not in samples
    assert samples["blipline_engine_steps_total"] == 5
    assert samples["blipline_worker_process_restarts_total engine"] == 1
    run_child("engine")
    assert scrape(port)["blipline_engine_active_rows"] == 7


def test_restarts_do_not_multiply_the_files(tmp_path: Path) -> None:
    metrics = started(tmp_path, free_port(), "engine")
    for _ in range(3):
        run_child("engine")
        metrics.record_death("engine")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_the_end_of_a_worker_leaves_no_files(tmp_path: Path) -> None:
    server = MetricsServer(tmp_path, free_port())
    assert server.directory
    server.serve({name: SharedMetrics(server.directory / name) for name in ("a", "b")})
    assert len(list(server.directory.iterdir())) == 2
    server.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "metrics-1"
    old.mkdir()
    started(tmp_path, free_port(), "engine")
    assert not old.exists()


def test_no_port_means_no_files(tmp_path: Path) -> None:
    server = MetricsServer(tmp_path, 0)
    metrics = SharedMetrics(server.directory)
    assert metrics.environment("engine") == {}
    server.serve({"": metrics})
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


#: The supervisor of a device: it runs two engines, the first of which dies.
TREE = f"""
import os, subprocess, sys
from pathlib import Path
from config.settings import WorkerSettings
from worker.processes.device_tree import DeviceTree

tree = DeviceTree(WorkerSettings.load(model="null"), Path(sys.argv[0]))
tree.prepare(0, lambda: False)
for number in range(2):
    environment = {{**os.environ, **tree._metrics.environment("engine")}}
    subprocess.run([sys.executable, "-c", {CHILD!r}], env=environment, check=True)
    number or tree._metrics.record_death("engine")
os._exit(0)
"""


def test_metrics_of_several_devices_have_a_label_and_outlive_their_supervisors(
    tmp_path: Path,
) -> None:
    port = free_port()
    server = MetricsServer(tmp_path, port)
    assert server.directory
    trees = {f"cpu:{number}": SharedMetrics(server.directory / str(number)) for number in range(2)}
    for device, metrics in trees.items():
        ENVIRONMENTS[device] = dict(metrics.environment(SUPERVISOR))
    server.serve(trees)
    run_child("cpu:1", TREE)
    trees["cpu:1"].set_ready(True)
    samples = scrape(port)
    assert samples["blipline_worker_ready cpu:0"] == 0
    assert samples["blipline_worker_ready cpu:1"] == 1
    assert samples["blipline_engine_steps_total cpu:1"] == 10
    assert samples["blipline_engine_active_rows cpu:1"] == 7
    assert samples["blipline_worker_process_restarts_total cpu:1 engine"] == 1
    assert "blipline_engine_steps_total cpu:0" not in samples
    assert sum(name.startswith("blipline_worker_ready ") for name in samples) == len(trees)

    trees["cpu:1"].record_death(SUPERVISOR)
    samples = scrape(port)
    assert "blipline_engine_active_rows cpu:1" not in samples
    assert samples["blipline_worker_process_restarts_total cpu:1 supervisor"] == 1
    run_child("cpu:1", TREE)
    samples = scrape(port)
    assert samples["blipline_engine_steps_total cpu:1"] == 20
    assert samples["blipline_engine_active_rows cpu:1"] == 7
    assert samples["blipline_worker_process_restarts_total cpu:1 engine"] == 2
    names = {path.stem.rpartition("_")[2] for path in (server.directory / "1").iterdir()}
    assert names == {"supervisor", "engine", "interactive", "bulk"}
    server.close()
