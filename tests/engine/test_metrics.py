from __future__ import annotations

import socket
import urllib.request
from dataclasses import asdict

import pytest

from worker.engine import metrics
from worker.engine.stats import EngineStats


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_statistic_is_a_metric() -> None:
    known = {field for field, _, _ in (*metrics.COUNTERS, *metrics.GAUGES)}
    assert known == set(asdict(EngineStats()))


def test_prometheus_reads_the_present_statistics() -> None:
    port, stats = free_port(), asdict(EngineStats())
    metrics.serve(port, lambda: stats)
    stats |= {"answered": 7, "active": 3}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    assert "blipline_engine_answers_total 7.0" in lines
    assert "blipline_engine_active_rows 3.0" in lines


def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            metrics.serve(listener.getsockname()[1], dict)
