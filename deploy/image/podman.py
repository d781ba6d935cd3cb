"""Podman with settings that a restricted machine, such as a sandbox, accepts."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Final

#: Enough files, and processes, for any of the containers.
SUFFICIENT: Final = 16_384


class ImageError(Exception):
    """A step that failed; the message names it and the remedy."""


def use_limits_of_this_machine(directory: Path) -> None:
    """Give containers limits below those of this process; podman's own may exceed them.

    runc accepts more kernels' control groups than crun does.
    """
    numbers = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {
        name: min(resource.getrlimit(number)[1] % 2**64, SUFFICIENT)
        for name, number in numbers.items()
    }
    ulimits = ", ".join(f'"{name}={limit}:{limit}"' for name, limit in limits.items())
    lines = ["[containers]", f"default_ulimits = [{ulimits}]"]
    if shutil.which("runc"):
        lines += ["[engine]", 'runtime = "runc"']
    file = directory / "containers.conf"
    file.write_text("\n".join([*lines, ""]))
    os.environ["CONTAINERS_CONF"] = str(file)


def podman(*arguments: str, timeout_s: float = 600) -> str:
    """Run podman; return what it printed. Raises ImageError."""
    command = ["podman", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def exists(image: str) -> bool:
    """Return whether an image is on this machine."""
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def pulled(image: str) -> bool:
    """Return whether an image is on this machine, or can be pulled to it."""
    if exists(image):
        return True
    command = ["podman", "pull", "--quiet", image]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
