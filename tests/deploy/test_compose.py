"""docker-compose.yml conforms to its specification and grants no more than the services need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from demo.stack import ROOT
from producer.gateway.server import GRACE_S

COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
BLIPLINE = [name for name in SERVICES if SERVICES[name]["image"].startswith("blipline:")]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def test_docker_waits_longer_than_the_gateway_takes_to_stop() -> None:
    seconds = re.fullmatch(r"(\d+)s", SERVICES["gateway"]["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) > GRACE_S


def test_the_files_conform_to_the_compose_specification() -> None:
    import check_jsonschema

    vendor = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
    schema = json.loads((vendor / "compose-spec.json").read_text())
    jsonschema.validate(yaml.safe_load(COMPOSE_TEXT), schema)


def test_no_service_has_more_rights_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys()
        assert service.get("user", "1") not in ("root", "0")
    # Its image starts as root; Blipline's does not.
    assert SERVICES["redis"]["user"] == "redis"


def test_all_services_wait_for_a_healthy_redis() -> None:
    for name in BLIPLINE:
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", BLIPLINE)
def test_a_service_with_a_read_only_root_can_write_temporary_files(name: str) -> None:
    assert re.search(r"^ENV .*\bHOME=/tmp\b", DOCKERFILE, re.MULTILINE)
    assert "/tmp" in [*SERVICES[name].get("tmpfs", ()), *SERVICES[name]["volumes"]]


def test_the_example_of_env_names_what_compose_reads_and_satisfies_it() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    offered = re.findall(r"^#?([A-Z_]+)=", "\n".join(lines), re.MULTILINE)
    read = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT)) | SERVICES["worker"]["environment"].keys()
    assert set(offered) <= read
    set_here = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT)) == set_here
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
