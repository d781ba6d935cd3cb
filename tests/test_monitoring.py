"""The monitoring files agree with each other and with Prometheus's own checks."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from demo.stack import ROOT
from tests.monitoring import ALERTS, MONITORING, dashboard, expressions, promtool

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts_the_files(arguments: tuple[str, ...]) -> None:
    checked = promtool(*arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_has_a_tested_series_and_a_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    (section,) = re.findall(rf"^### {name}\n(.*?)(?=^### |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    for part in ("Meaning", "Check", "Do"):
        assert f"**{part}.**" in section
    cases = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())["tests"]
    assert any(case["name"] == name for case in cases)


def test_every_section_of_an_alert_has_its_alert() -> None:
    sections = re.findall(r"^### (Blipline\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == [alert["alert"] for alert in ALERTS]


def test_every_metric_of_dashboard_and_alerts_is_documented() -> None:
    names = {
        re.sub(r"_bucket$", "", name)
        for expression in expressions()
        for name in re.findall(r"\bblipline_\w+", expression)
    }
    assert len(names) > 40
    assert {name for name in names if f"`{name}" not in RUNBOOK} == set()


def test_the_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_compose_mounts_files_that_exist_and_grafana_reads_this_prometheus() -> None:
    services = COMPOSE["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        assert services[name]["read_only"]
        for mount in services[name]["volumes"]:
            source, *_ = mount.split(":")
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file()
    (source,) = yaml.safe_load((MONITORING / "grafana/datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {
        panel["datasource"]["uid"] for panel in dashboard()["panels"] if "targets" in panel
    } == {source["uid"]}


def test_prometheus_scrapes_the_services_of_compose_at_their_ports() -> None:
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    ports = {
        name: config["port"]
        for job in jobs
        for config in job["dns_sd_configs"]
        for name in config["names"]
    }
    environment = {name: COMPOSE["services"][name]["environment"] for name in ports}
    assert ports == {
        name: int(variables.get("BLIPLINE_GATEWAY_PORT") or variables["BLIPLINE_METRICS_PORT"])
        for name, variables in environment.items()
    }


@pytest.mark.parametrize(("password", "code"), [("", 1), ("secret", 0)])
def test_grafana_starts_with_a_password_only(password: str, code: int) -> None:
    shell, option, script = COMPOSE["services"]["grafana"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run.sh", "true")
    environment = {"GF_SECURITY_ADMIN_PASSWORD": password}
    ended = subprocess.run(
        [shell, option, script], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert ("GRAFANA_PASSWORD" in ended.stderr) == bool(code)
