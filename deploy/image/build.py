"""Build of the CPU image."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from demo.stack import ROOT
from deploy.image.base import build_base
from deploy.image.pip_configuration import pip_volumes
from deploy.image.podman import ImageError, podman, pulled

#: As docker-compose.yml names it.
IMAGE: Final = "localhost/blipline:cpu"
PYTHON_BASE: Final = "docker.io/library/python:3.11-slim"
REDIS_IMAGE: Final = "docker.io/library/redis:7-alpine"
#: Build arguments that the environment may give, as to Compose.
ARGUMENTS: Final = ("TORCH_INDEX", "STORES", "TRACING", "BAKE_MODEL")


def base_images(base: str | None, mirror: str) -> tuple[str, str]:
    """Return the base image, and an image of Redis: pulled, or made of Debian's packages."""
    base = base or (PYTHON_BASE if pulled(PYTHON_BASE) else build_base(mirror))
    return base, REDIS_IMAGE if pulled(REDIS_IMAGE) else build_base(mirror)


def build(base: str) -> None:
    """Build the image as Compose does, with this machine's pip configuration. Raises ImageError."""
    arguments = {"BASE": base}
    arguments |= {name: os.environ[name] for name in ARGUMENTS if os.environ.get(name)}
    print(f"image: building {IMAGE} on {base}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="blipline-build-") as directory:
        # Without the privileges, and the registry, that other isolations need.
        command = ["podman", "build", "--isolation", "chroot", "--layers", "--tag", IMAGE]
        for volume in pip_volumes(Path(directory)):
            command += ["--volume", volume]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        if subprocess.run([*command, str(ROOT)], stdout=sys.stderr, check=False).returncode:
            raise ImageError("the image was not built: see the output above")


def size_mb(image: str) -> float:
    """Return the unpacked size of an image, in megabytes."""
    return int(podman("image", "inspect", "--format", "{{.Size}}", image)) / 1e6
