"""`python -m worker`: the process tree of one accelerator.

Prints `ready` on stdout when it takes jobs. On SIGTERM or Ctrl-C it finishes running jobs and
exits; on a second signal it exits without waiting. Exit codes: 0 stopped, 1 a process died
repeatedly, 2 a setting or the model cannot be used, 3 a worker is already running here.

`python -m worker info [MODEL]` shows the device memory that a model needs;
`python -m worker download [MODEL]` fills the cache of the Hugging Face hub beforehand.
"""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from config.settings import WorkerSettings
from producer import logs
from producer.connection.eviction import check_reachable_redis
from producer.errors import InvalidInput
from worker import info, streams
from worker.hub import command as download
from worker.supervisor import Supervisor


def main() -> int:
    """Run the process tree until it is stopped, or a subcommand."""
    if sys.argv[1:2] == ["info"]:
        return info.main(sys.argv[2:])
    if sys.argv[1:2] == ["download"]:
        return download.main(sys.argv[2:])
    streams.protect()
    try:
        settings = WorkerSettings.load(**vars(_parser().parse_args()))
        logs.configure(settings, "supervisor")
        # Before the model is loaded; each consumer checks again once Redis is reachable.
        check_reachable_redis(settings.redis_url)
        supervisor = Supervisor(settings, on_ready=lambda: print("ready", flush=True))
    except (InvalidInput, OSError) as error:
        logs.report_failure("worker", str(error))
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    return supervisor.run()


def _parser() -> ArgumentParser:
    """Return a parser with one option for each setting, so that none is missing."""
    parser = ArgumentParser(
        prog="python -m worker", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    for name, field in WorkerSettings.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{field.description} [BLIPLINE_{name.upper()}; default {field.default}]",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
