"""Packages of an extra, imported when they are needed: Parquet, stores, Pillow."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InvalidInput
from ..extras import install_command


def required(module: str, extra: str = "annotate") -> Any:
    """Import a module of an extra; raises InvalidInput that names the remedy."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidInput(f"this needs {error.name}: {install_command(extra)}") from None
    except ImportError as error:
        raise InvalidInput(
            f"a package cannot be loaded: {error}: reinstall it: {install_command(extra)}"
        ) from None
