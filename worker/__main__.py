"""`python -m worker`: the process tree of one accelerator, or with --devices one tree for each.

Prints `ready` on stdout when it takes jobs. On SIGTERM or Ctrl-C it finishes running jobs and
exits; on a second signal it exits without waiting. Exit codes: 0 stopped, 1 a process died
repeatedly, 2 a setting or the model cannot be used, 3 a worker is already running here.

`python -m worker info [MODEL]` shows the device memory that a model needs;
`python -m worker download [MODEL]` fills the cache of the Hugging Face hub beforehand;
`python -m worker health` shows the state of each process.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the process tree until it is stopped, or a subcommand."""
    # Late imports: a health check has to be quick.
    match sys.argv[1:]:
        case ["info", *arguments]:
            from worker import info

            return info.main(arguments)
        case ["download", *arguments]:
            from worker.hub import command

            return command.main(arguments)
        case ["health", *arguments]:
            from worker import health

            return health.main(arguments)
        case arguments:
            from worker import run

            return run.main(arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
