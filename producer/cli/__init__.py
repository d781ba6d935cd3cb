"""The command line `blipline`; it needs the extra `blipline[cli]`."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec

from ..extras import install_command
from .standard_streams import open_closed_streams

#: Packages of the extra.
_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command of the arguments, and exit with its code."""
    # Ctrl-C during the imports would print a traceback.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_DFL)
    open_closed_streams()
    if not all(map(find_spec, _EXTRA)):
        sys.exit(
            f"blipline: the command line needs click and rich: {install_command('cli')}; the extra"
            " `worker` also brings a worker and the gateway (blipline up, annotate --local)"
        )
    from .app import run
    from .output import discard_stdout

    signal.signal(signal.SIGINT, interrupted)
    code = run()
    # A further Ctrl-C, while threads end, kills the process in place of printing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()
    sys.exit(code)
