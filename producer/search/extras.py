"""Packages of the extra `search`, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InvalidInput


def required(module: str) -> Any:
    """Import a module of the extra; raises InvalidInput that names the remedy."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidInput(f"search needs {error.name}: pip install 'blipline[search]'") from None
    except ImportError as error:
        raise InvalidInput(
            f"a package cannot be loaded: {error}: reinstall it: pip install 'blipline[search]'"
        ) from None
