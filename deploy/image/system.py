"""The whole system from the image, started from docker-compose.yml by podman-compose."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import yaml

from demo.stack import ROOT, free_port
from deploy.image.podman import ImageError, podman

PROJECT: Final = "blipline-image"
SERVICES: Final = ("redis", "gateway", "flower", "worker-cpu")
#: Seconds until all health checks succeed.
HEALTHY_S: Final = 300.0


@dataclass(frozen=True)
class System:
    """Running containers of one project."""

    #: The variables of docker-compose.yml.
    environment: Mapping[str, str]

    @property
    def redis_url(self) -> str:
        """Return the URL of Redis for this machine."""
        password, port = self.environment["REDIS_PASSWORD"], self.environment["REDIS_PORT"]
        return f"redis://:{password}@127.0.0.1:{port}/0"

    @property
    def gateway(self) -> str:
        """Return the URL of the gateway."""
        return f"http://127.0.0.1:{self.environment['GATEWAY_PORT']}"

    @property
    def flower(self) -> str:
        """Return the URL of Flower."""
        return f"http://127.0.0.1:{self.environment['BLIPLINE_FLOWER_PORT']}"

    def compose(self, *arguments: str) -> None:
        """Run podman-compose on docker-compose.yml. Raises ImageError."""
        command = [sys.executable, "-m", "podman_compose", "--project-name", PROJECT]
        command += ["--file", str(ROOT / "docker-compose.yml"), "--profile", "cpu", *arguments]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise ImageError(f"podman-compose {' '.join(arguments)}: {done.stderr.strip()}")

    def wait_until_healthy(self, container: str) -> None:
        """Run a container's health check until it succeeds. Raises ImageError."""
        deadline = time.monotonic() + HEALTHY_S
        while subprocess.run(
            ["podman", "healthcheck", "run", container], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline or not running(container):
                raise ImageError(f"{container} is not healthy:\n{podman('logs', container)}")
            time.sleep(0.5)


def container(service: str, number: int = 1) -> str:
    """Return the name that Compose gives a container."""
    return f"{PROJECT}_{service}_{number}"


def running(name: str) -> bool:
    """Return whether a container runs."""
    return podman("inspect", "--format", "{{.State.Running}}", name) == "true"


def stop(name: str, service: str) -> float:
    """Stop a container as Compose does; return the seconds. Raises ImageError.

    The container must end within its grace period, with exit code 0.
    """
    grace_s = _seconds(_services()[service].get("stop_grace_period", "10s"))
    started = time.monotonic()
    podman("stop", "--time", str(grace_s), name)
    seconds = time.monotonic() - started
    code = podman("inspect", "--format", "{{.State.ExitCode}}", name)
    if code != "0" or seconds >= grace_s:
        raise ImageError(f"{name} ended with exit code {code} after {seconds:.1f} of {grace_s} s")
    return seconds


@contextmanager
def running_system(redis_image: str, workers: int) -> Iterator[System]:
    """Run Redis, workers, the gateway and Flower; yield when all are healthy."""
    system = System(
        {
            "REDIS_IMAGE": redis_image,
            "REDIS_PASSWORD": secrets.token_hex(16),
            "REDIS_MAXMEMORY": "1gb",
            "BLIPLINE_FLOWER_AUTH": "ann:secret",
            **{name: str(free_port()) for name in ("REDIS_PORT", "GATEWAY_PORT")},
            "BLIPLINE_FLOWER_PORT": str(free_port()),
            # The same images wait several times: each must be computed.
            "BLIPLINE_ANSWER_CACHE_S": "0",
            "BLIPLINE_FEATURE_CACHE_MB": "0",
        }
    )
    try:
        scale = ["--scale", f"worker-cpu={workers}"]
        system.compose("up", "--detach", "--no-build", *scale, *SERVICES)
        for service in SERVICES:
            for number in range(1, 1 + (workers if service == "worker-cpu" else 1)):
                system.wait_until_healthy(container(service, number))
        yield system
    finally:
        # podman-compose does not know replicas of an earlier call.
        label = f"label=io.podman.compose.project={PROJECT}"
        if containers := podman("ps", "--all", "--quiet", "--filter", label).split():
            podman("rm", "--force", "--ignore", "--depend", "--volumes", *containers)
        system.compose("down", "--volumes")


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def _seconds(duration: str) -> int:
    number, unit = int(duration[:-1]), duration[-1]
    return number * {"s": 1, "m": 60}[unit]
