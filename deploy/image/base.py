"""A Debian base image, for machines that reach a Debian mirror but no image registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.image.podman import ImageError, exists, podman

NAME: Final = "localhost/blipline-base"
#: Debian's Python is 3.11; its redis-server stands in for the image of Redis.
RELEASE: Final = "bookworm"
REMEDY: Final = "install debootstrap and run this as root, or name an image you have by --base"
PACKAGES: Final = ("ca-certificates", "python3", "python3-venv", "redis-server")


def build_base(mirror: str) -> str:
    """Make the image unless it exists; return its name."""
    if exists(NAME):
        return NAME
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise ImageError(f"no image registry: {REMEDY}")
    print(f"image: making {NAME} from {mirror}, a few minutes, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="blipline-base-") as directory:
        root = Path(directory, "root")
        include = f"--include={','.join(PACKAGES)}"
        bootstrap = ["debootstrap", "--variant=minbase", include, RELEASE, str(root), mirror]
        subprocess.run(bootstrap, check=True, stdout=subprocess.DEVNULL)
        # The directory of Redis's volume, as in the image of Redis.
        owned = ["install", "-d", "-o", "redis", "-g", "redis", "/data"]
        subprocess.run(["chroot", str(root), *owned], check=True)
        for package in root.glob("var/cache/apt/archives/*.deb"):
            package.unlink()
        archive = Path(directory, "root.tar")
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        podman("import", "--quiet", str(archive), NAME)
    return NAME
