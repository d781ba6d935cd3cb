"""The command line `blipline`; it needs the extra `blipline[cli]`."""

from __future__ import annotations

import signal
import sys

from ..extras import install_command
from .standard_streams import open_closed_streams

#: Packages of the extra.
_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command of the arguments, and exit with its code."""
    open_closed_streams()
    # Ctrl-C during the imports, which take a second, would print a traceback.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from .app import run
        from .output import discard_stdout
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.exit(f"blipline: the command line needs click and rich: {install_command('cli')}")
    signal.signal(signal.SIGINT, interrupted)
    code = run()
    # A further Ctrl-C, while threads end, kills the process in place of printing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()
    sys.exit(code)
