"""`blipline exporter` serves the metrics of the job store that a gateway serves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from demo.stack import ROOT, free_port
from producer import Client
from producer.gateway.app import create_app
from producer.gateway.settings import GatewaySettings
from tests.gateways import running_app
from tests.monitoring import samples
from tests.redis_servers import Server

URL = "https://images.example.com/cat.jpg"


@contextmanager
def running_exporter(redis_url: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "producer.cli", "exporter", "--redis-url", redis_url, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removeprefix("exporter: "), process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_it_serves_what_a_gateway_serves(redis_url: str, client: Client) -> None:
    client.submit({"image": URL})
    client.submit_batch([{"image": URL}] * 40)
    app = create_app(GatewaySettings.load(redis_url=redis_url))
    with running_exporter(redis_url, "--port", "0") as (url, _), running_app(app) as api:
        exported, served = samples(url), samples(f"{api}/metrics")
    assert exported["blipline_open_items bulk"] == 40
    assert exported["blipline_open_items_limit interactive"] == 10_000
    assert exported["blipline_open_batch_items open"] == 40
    assert exported["blipline_redis_up"] == 1
    changing = re.compile("blipline_(oldest|redis_memory)")
    # A gateway has a default quota of all names, a client of Redis itself none.
    for name, value in exported.items():
        assert name in served
        assert changing.match(name) or served[name] == value


def test_it_shows_that_redis_is_down_and_comes_back(server: Server) -> None:
    redis_url = f"redis://127.0.0.1:{server.port}/0"
    with running_exporter(redis_url, "--port", str(free_port())) as (url, process):
        assert samples(url)["blipline_redis_up"] == 1
        server.kill()
        for _ in range(3):
            assert samples(url) == {"blipline_redis_up": 0}
        server.start()
        assert samples(url)["blipline_redis_up"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        # Once for each outage.
        assert process.stderr.read().count("Is it running") == 1


def test_an_address_in_use_is_an_error_in_one_line(redis_url: str) -> None:
    with running_exporter(redis_url, "--port", "0") as (url, _):
        port = url.rpartition(":")[2].removesuffix("/metrics")
        command = [sys.executable, "-m", "producer.cli", "exporter", "--port", port]
        ended = subprocess.run(
            [*command, "--redis-url", redis_url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_missing_package_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from producer.cli.app import run

    for name in [name for name in sys.modules if name.startswith("producer.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert run(["exporter"]) == 2
    assert ".[exporter]" in capsys.readouterr().err
