"""The files of config/monitoring, and Prometheus's programs, for tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from demo.stack import ROOT, free_port
from tests.redis_servers import wait_until

MONITORING: Final = ROOT / "config" / "monitoring"
ALERTS: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
#: Where `make prometheus` unpacks Debian's package.
_UNPACKED: Final = ROOT / ".venv" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`."""
    path = shutil.which(name) or shutil.which(name, path=str(_UNPACKED))
    assert path is not None, f"{name} is missing: `make prometheus` unpacks it"
    return path


def promtool(
    *arguments: str, directory: Path = MONITORING, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run promtool in the directory of the files."""
    return subprocess.run(
        [program("promtool"), *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def samples(url: str) -> dict[str, float]:
    """Return the samples of an exposition, read as OpenMetrics, by name and label values."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    request = urllib.request.Request(url, headers=accept)
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        text = response.read().decode()
    return {
        " ".join([sample.name, *map(sample.labels.get, sorted(sample.labels))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def running_prometheus(directory: Path, targets: dict[str, str]) -> Iterator[str]:
    """Run Prometheus with the alerts, and these addresses by job, each second; yield its URL."""
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [address]}]}
        for job, address in targets.items()
    ]
    config = directory / "prometheus.yml"
    interval = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    rules = [str(MONITORING / "alerts.yml")]
    config.write_text(json.dumps({"global": interval, "rule_files": rules, "scrape_configs": jobs}))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={config}", f"--web.listen-address={address}"]
    command.append(f"--storage.tsdb.path={directory / 'data'}")
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        # Until then, it answers queries with 503.
        wait_until(lambda: _answers(f"http://{address}/-/ready"), "Prometheus")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    read: dict[str, Any] = json.loads((MONITORING / "grafana" / "blipline.json").read_text())
    return read


def panel_expressions() -> Iterator[str]:
    """Yield the queries of the dashboard, as Grafana sends them."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")


def expressions() -> Iterator[str]:
    """Yield the queries of the dashboard and the alerts."""
    yield from panel_expressions()
    yield from (alert["expr"] for alert in ALERTS)
