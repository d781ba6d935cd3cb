"""The machine's pip configuration, for a build: mirrors and proxies that a build needs as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

#: Where pip reads it inside the image.
TARGET: Final = "/etc/pip.conf"


def pip_options() -> dict[str, str]:
    """Return pip's options on this machine; the environment overrides files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    options = {}
    # Sorted, `:env:` stands before `global`.
    for line in sorted(listed.splitlines(), reverse=True):
        scope_and_name, _, value = line.partition("=")
        options[scope_and_name.rpartition(".")[2]] = value.strip("'\"").replace("\\n", " ")
    return options


def pip_volumes(directory: Path) -> list[str]:
    """Write the options into `directory`; return the volumes of a build that uses them.

    Files and directories that the options name are at the same paths inside the build.
    """
    options = pip_options()
    lines = ["[global]", *(f"{name} = {value}" for name, value in options.items())]
    file = directory / "pip.conf"
    file.write_text("\n".join([*lines, ""]))
    words = {word for value in options.values() for word in value.split()}
    # The pages of an index on disk link to files beside it.
    paths = {Path(word.removeprefix("file://")).parent for word in words if word[:8] == "file:///"}
    paths |= {Path(word) for word in words if word.startswith("/")}
    volumes = [f"{path}:{path}:ro" for path in sorted(paths) if path.exists()]
    return [f"{file}:{TARGET}:ro", *volumes]
