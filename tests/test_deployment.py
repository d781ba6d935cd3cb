"""The deployment files agree with the code. These tests need no Docker."""

from __future__ import annotations

import ast
import base64
import fnmatch
import os
import re
import runpy
import subprocess
import sys
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from config.settings import DEMO_MODEL, WorkerSettings
from demo.stack import ROOT, free_port, running_flower, running_gateway, running_redis
from producer.gateway.settings import GatewaySettings
from worker.processes import process_list
from worker.processes.device_tree import ENGINE_GRACE_S
from worker.processes.lifeline import READY
from worker.processes.process_list import ProcessEntry

COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
FLOWER_CONFIG = ROOT / "config" / "flowerconfig.py"
WORKERS = ["worker", "worker-cpu"]
#: Paths inside the container, which the image sets.
SET_BY_IMAGE = {"BLIPLINE_RUN_DIR", "BLIPLINE_READY_FILE"}
SETTINGS = {f"BLIPLINE_{name.upper()}" for name in WorkerSettings.model_fields}
GATEWAY_SETTINGS = {f"BLIPLINE_{name.upper()}" for name in GatewaySettings.model_fields}
#: Not for the container: it listens on all interfaces, and each key has its own submitter queue.
NOT_FOR_GATEWAY = {"BLIPLINE_PAGE_OPEN_AS", "BLIPLINE_SUBMITTER"}


def variables(text: str) -> set[str]:
    return set(re.findall(r"\bBLIPLINE_[A-Z_]*[A-Z]\b", text))


def copied() -> set[str]:
    """Return the sources that the Dockerfile copies; each keeps its name."""
    pairs = re.findall(r"^COPY (?:--chmod=\S+ )*(\S+) (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert all(target in (source, ".") for source, target in pairs)
    return {source for source, _ in pairs}


def image_environment() -> dict[str, str]:
    line = re.findall(r"^ENV (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1]
    return dict(pair.split("=", 1) for pair in line.split())


def health_command(service: str) -> list[str]:
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    command = [part.replace("$$", "$") for part in command]
    return ["sh", "-c", *command] if kind == "CMD-SHELL" else command


def interpolate(value: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Substitute variables as Compose does; the shell has the same rules but for an inner `:?`."""
    shell = ["sh", "-c", f'printf %s "{value}"']
    return subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)


def default_of(value: str) -> str:
    """Return the value that Compose substitutes while no variable is set."""
    return interpolate(value).stdout


def test_up_starts_the_gpu_worker_and_the_cpu_worker_is_a_profile() -> None:
    by_default = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert {"redis", "worker", "gateway", "flower"} <= by_default
    assert SERVICES["worker-cpu"]["profiles"] == ["cpu"]


def test_only_the_gpu_worker_reserves_a_gpu_and_pulls_cuda() -> None:
    (device,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "TORCH_INDEX" in SERVICES["worker"]["build"]["args"]
    for name in ("worker-cpu", "gateway", "flower"):
        assert "deploy" not in SERVICES[name]
        assert "TORCH_INDEX" not in SERVICES[name]["build"]["args"]
        assert SERVICES[name]["image"] != SERVICES["worker"]["image"]
    assert re.search(r"^ARG TORCH_INDEX=\S+/cpu$", DOCKERFILE, flags=re.MULTILINE)


def test_the_worker_can_be_scaled() -> None:
    for name in WORKERS:
        assert not {"container_name", "ports"} & SERVICES[name].keys()


def test_every_variable_is_a_setting_that_exists() -> None:
    known = SETTINGS | GATEWAY_SETTINGS | variables(FLOWER_CONFIG.read_text())
    assert variables(COMPOSE_TEXT) <= known
    assert variables(DOCKERFILE) <= known


@pytest.mark.parametrize("name", WORKERS)
def test_every_setting_reaches_the_worker(name: str) -> None:
    given = SERVICES[name]["environment"].keys()
    assert SETTINGS - given == SET_BY_IMAGE
    assert image_environment().keys() >= SET_BY_IMAGE


def test_every_setting_reaches_the_gateway() -> None:
    assert GATEWAY_SETTINGS - SERVICES["gateway"]["environment"].keys() == NOT_FOR_GATEWAY


def test_the_gateway_runs_and_is_healthy_as_compose_has_it(redis_url: str) -> None:
    service, port = SERVICES["gateway"], free_port()
    given = {"BLIPLINE_REDIS_URL": redis_url, "BLIPLINE_GATEWAY_HOST": "0.0.0.0"}
    # The page, which tests/page covers, takes long to import.
    given["BLIPLINE_PAGE"] = "false"
    python, *command = service["command"].split()
    assert python == "python"
    inside = str(service["environment"]["BLIPLINE_GATEWAY_PORT"])
    _, *check = health_command("gateway")
    check = [part.replace(f":{inside}/", f":{port}/") for part in check]
    with running_gateway(redis_url, port, given, command):
        assert subprocess.run([sys.executable, *check], check=False).returncode == 0
    gone = subprocess.run([sys.executable, *check], check=False, stderr=subprocess.DEVNULL)
    assert gone.returncode != 0


def test_every_variable_for_flower_is_read_by_its_configuration() -> None:
    given = {name for name in SERVICES["flower"]["environment"] if "FLOWER" in name}
    assert given == variables(FLOWER_CONFIG.read_text())


def test_every_variable_of_compose_stands_in_the_docs() -> None:
    documented = (ROOT / "docs" / "deployment.md").read_text()
    named = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    assert {name for name in named if f"`{name}`" not in documented} == set()


def test_every_copied_file_exists_and_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    for source in copied():
        assert (ROOT / source).exists()
        assert f"!{source}" in rules
        later = rules[rules.index(f"!{source}") + 1 :]
        assert not any(fnmatch.fnmatch(source, rule) for rule in later if rule[0] != "!")


def test_every_package_that_the_image_needs_is_in_it() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    inside = copied() & packages
    needed = {"worker"}
    for package in inside:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    needed |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    needed.add(node.module.partition(".")[0])
    assert needed & packages <= inside


def test_the_demo_model_is_in_the_image() -> None:
    relative = DEMO_MODEL.relative_to(ROOT)
    assert relative.parts[0] in copied()
    assert (DEMO_MODEL / "config.json").is_file()


def test_the_image_runs_the_worker_as_an_unprivileged_user() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    # A number: Kubernetes must see that it is not root.
    assert users[-1] == re.findall(r"useradd --uid (\d+)", DOCKERFILE)[0]
    assert 'CMD ["python", "-m", "worker"]' in DOCKERFILE
    for name in WORKERS:
        assert "command" not in SERVICES[name]


@pytest.mark.parametrize("name", WORKERS)
def test_the_worker_makes_its_own_run_directory_in_memory(name: str) -> None:
    # It must be private; the root of a mount belongs to others on some platforms.
    run_dir = Path(image_environment()["BLIPLINE_RUN_DIR"])
    assert SERVICES[name]["tmpfs"] == [str(run_dir.parent)]
    assert Path(image_environment()["BLIPLINE_READY_FILE"]).parent == run_dir


def test_the_check_of_a_worker_reads_its_run_directory(tmp_path: Path) -> None:
    python, *command = health_command("worker")
    assert health_command("worker-cpu") == [python, *command]
    assert python == "python"
    environment = {**os.environ, "BLIPLINE_RUN_DIR": str(tmp_path)}

    def check() -> int:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=False)
        return done.returncode

    assert check() == 1
    process_list.write(tmp_path, [ProcessEntry("engine", "engine.state", None)])
    assert check() == 1
    (tmp_path / "engine.state").write_text(f"{os.getpid()} {READY}")
    assert check() == 0


@pytest.mark.parametrize("name", WORKERS)
def test_docker_waits_longer_than_the_supervisor_takes_to_stop(name: str) -> None:
    minutes = re.fullmatch(r"(\d+)m", SERVICES[name]["stop_grace_period"])
    assert minutes
    grace_s = WorkerSettings.model_fields["grace_s"].default
    # The drain, then the engine.
    assert int(minutes[1]) * 60 > grace_s + ENGINE_GRACE_S


@pytest.mark.parametrize("name", ["redis", "gateway", "flower"])
def test_ports_are_published_on_the_loopback_interface(name: str) -> None:
    (port,) = SERVICES[name]["ports"]
    assert default_of(port).startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, False),
        ({"REDIS_PASSWORD": "s3cret"}, False),
        ({"REDIS_PASSWORD": "s3cret", "REDIS_BIND": "0.0.0.0"}, False),
        ({"REDIS_BIND": "0.0.0.0"}, True),
        ({"REDIS_BIND": "10.0.0.5", "REDIS_PASSWORD": ""}, True),
    ],
)
def test_redis_is_published_only_with_a_password(
    environment: dict[str, str], refused: bool
) -> None:
    service = SERVICES["redis"]
    given = {
        name: environment.get(name, "")
        if value is None
        else interpolate(value, **environment).stdout
        for name, value in service["environment"].items()
    }
    shell = [part.replace("$$", "$") for part in service["entrypoint"]]
    done = subprocess.run(
        [*shell, "echo", "a b"], env=given, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == ((1, "") if refused else (0, "a b\n"))
    assert ("REDIS_BIND needs REDIS_PASSWORD" in done.stderr) == refused
    command: list[str] = service["command"]
    password = interpolate(command[command.index("--requirepass") + 1], **environment).stdout
    assert password == environment.get("REDIS_PASSWORD", "")


def test_no_variable_is_required_within_another() -> None:
    # Compose evaluates it always, whatever the outer variable is.
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.findall(r"\$\{\w+:?[-+?][^}]*\$\{\w+:?\?", text)


def test_the_memory_of_redis_is_limited_above_the_quota_of_all_names() -> None:
    command: list[str] = SERVICES["redis"]["command"]
    limit = default_of(command[command.index("--maxmemory") + 1])
    total_mb = GatewaySettings.model_fields["gateway_total_quota_mb"].default
    assert limit.endswith("gb")
    # New work is refused above 90 %.
    assert int(limit.removesuffix("gb")) * 1024 * 0.9 > total_mb


def test_the_nginx_example_hides_what_needs_no_key() -> None:
    docs = (ROOT / "docs" / "deployment.md").read_text()
    (hidden,) = re.findall(
        r"^location ~ (\S+) \{\n.*?deny all;.*?^\}", docs, re.MULTILINE | re.DOTALL
    )
    paths = ("/metrics", "/readyz", "/healthz", "/metrics/")
    assert all(re.match(hidden, path) for path in paths)
    assert not re.match(hidden, "/v1/queues")


def test_every_service_restarts_is_checked_and_has_bounded_logs() -> None:
    for service in SERVICES.values():
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "start_period"} <= service["healthcheck"].keys()
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


def test_redis_accepts_its_command_line_and_keeps_its_queues() -> None:
    _, config, *options = [default_of(part) for part in SERVICES["redis"]["command"]]
    mounts = [mount.split(":") for mount in SERVICES["redis"]["volumes"]]
    assert ["./config/redis.conf", config, "ro"] in mounts
    assert options[:2] == ["--dir", "/data"]
    assert ["redis", "/data"] in mounts
    with running_redis(None, *options[2:]) as url, redis.Redis.from_url(url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with running_redis() as url, redis.Redis.from_url(url) as client:
        assert client.config_get("save") == {"save": ""}
    assert re.search(r"^appendonly yes$", (ROOT / "config/redis.conf").read_text(), re.MULTILINE)


def test_compose_demands_flower_credentials() -> None:
    given = SERVICES["flower"]["environment"]["BLIPLINE_FLOWER_AUTH"]
    assert given.startswith("${BLIPLINE_FLOWER_AUTH:?")


def test_flower_defines_every_option_of_its_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flower.options import options
    from flower.views.tasks import TASK_COLUMNS

    values = {
        "AUTH": "some:thing",
        "ADDRESS": "127.0.0.1",
        "PORT": str(free_port()),
        "READ_ONLY": "true",
        "DB": str(tmp_path / "state"),
    }
    for name in variables(FLOWER_CONFIG.read_text()):
        monkeypatch.setenv(name, values[name.removeprefix("BLIPLINE_FLOWER_")])
    config = runpy.run_path(str(FLOWER_CONFIG))
    names = {
        name
        for name, value in config.items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    }
    assert config["read_only"] is True
    assert names >= {"basic_auth", "persistent", "format_task"}
    # Flower silently ignores unknown names.
    assert {name for name in names if name not in options} == set()
    assert set(config["tasks_columns"].split(",")) <= TASK_COLUMNS.keys()


def get(url: str, credentials: str | None = None) -> int:
    request = urllib.request.Request(url)
    if credentials is not None:
        encoded = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_flower_requires_credentials(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLIPLINE_FLOWER_AUTH", "ann:secret,bob:other")
    monkeypatch.setenv("BLIPLINE_FLOWER_DB", str(tmp_path / "state"))
    with running_flower(redis_url) as address:
        for page in ("/", "/workers", "/tasks", "/api/tasks"):
            assert get(f"{address}{page}") == 401
            assert get(f"{address}{page}", "ann:wrong") == 401
            assert get(f"{address}{page}", "ann:secret") == 200
        assert get(f"{address}/tasks", "bob:other") == 200
        # The health check of Compose, with the port inside the container replaced.
        port = str(SERVICES["flower"]["environment"]["BLIPLINE_FLOWER_PORT"])
        python, *command = health_command("flower")
        assert python == "python"
        command = [part.replace(f":{port}/", f":{address.rpartition(':')[2]}/") for part in command]
        assert subprocess.run([sys.executable, *command], check=False).returncode == 0
    # Flower has ended, and the health check fails.
    gone = subprocess.run([sys.executable, *command], check=False, stderr=subprocess.DEVNULL)
    assert gone.returncode != 0
    # The database of its view remains.
    assert list(tmp_path.glob("state*"))
