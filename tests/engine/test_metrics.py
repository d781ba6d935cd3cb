from __future__ import annotations

import socket
import urllib.request
from dataclasses import asdict

import pytest

from demo.stack import free_port
from worker.engine import metrics
from worker.engine.metrics import EngineMetrics
from worker.engine.stats import EngineStats


def test_every_statistic_is_a_metric() -> None:
    known = {field for field, _, _ in (*metrics.COUNTERS, *metrics.GAUGES)}
    assert known == set(asdict(EngineStats()))


def test_prometheus_reads_the_published_statistics() -> None:
    port, engine = free_port(), EngineMetrics()
    engine.serve(port)
    for stats in (EngineStats(answered=4, active=1), EngineStats(answered=7, active=3)):
        engine.publish(stats)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    assert "blipline_engine_answers_total 7.0" in lines
    assert "blipline_engine_active_rows 3.0" in lines


def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            EngineMetrics().serve(listener.getsockname()[1])
