"""The code of the worker: that of a checkout, or that in the wheel beside the package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

from ...errors import InvalidInput
from ...extras import install_command

#: Packages without which no worker starts.
_NEEDED: Final = ("celery", "torch", "transformers")


def worker_environment(caller: str) -> dict[str, str]:
    """Return the variables with which Python runs `-m worker`.

    The worker's folder comes first, and the current folder not at all: a web backend often has a
    `config` of its own. Raises InvalidInput, which `caller` begins, if the extra is missing.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise InvalidInput(
                f"{caller} starts a worker, which needs {name}: {install_command('worker')}, or "
                "set BLIPLINE_REDIS_URL to a Redis with workers"
            )
    paths = [str(_root()), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",
    }


def _root() -> Path:
    package = Path(__file__).resolve().parents[2]
    # Installed, the package has another name, and the packages beside it are anyone's.
    return package.parent if package.name == "producer" else package / "worker_root"
