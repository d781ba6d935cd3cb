"""The command line `blipline`; it needs the extra `blipline[cli]`."""

from __future__ import annotations

import sys

#: Packages of the extra.
_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command of the arguments, and exit with its code."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.exit("blipline: the command line needs click and rich: pip install 'blipline[cli]'")
    sys.exit(run())
