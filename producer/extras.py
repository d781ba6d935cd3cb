"""Extras of the package: it is not on PyPI, so they are installed from a checkout."""

from __future__ import annotations


def install_command(extra: str) -> str:
    """Return the command that installs an extra, for error messages."""
    return f"`pip install '.[{extra}]'` in a checkout of Blipline"
