"""The default parent of run directories. This module imports the standard library only."""

from __future__ import annotations

import os
from pathlib import Path


def default_parent() -> Path:
    """Return the directory that has a run directory for each deployment of this user."""
    root = os.environ.get("XDG_RUNTIME_DIR")
    if not root:
        # A late import: it takes a tenth of the time of a health check.
        import tempfile

        root = tempfile.gettempdir()
    return Path(root) / f"blipline-{os.getuid()}"
