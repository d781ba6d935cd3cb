"""The start of a worker: its settings, its process tree and its signals."""

from __future__ import annotations

import logging
import signal
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from config.devices import parse_devices
from config.settings import WorkerSettings
from producer.connection.eviction import check_reachable_redis
from producer.errors import InvalidInput
from producer.observability import logs
from worker.engine.protocol import private_dir
from worker.processes import lifeline, streams
from worker.processes.child import EXIT_PERMANENT
from worker.processes.device_tree import DeviceTree
from worker.processes.machine_tree import MachineTree
from worker.processes.supervisor import Supervisor

log = logging.getLogger(__name__)


def main(arguments: Sequence[str], description: str | None) -> int:
    """Run the process trees of the settings until it is stopped; return the exit code."""
    streams.protect()
    try:
        settings = WorkerSettings.load(**vars(_parser(description).parse_args(arguments)))
        logs.configure(settings, lifeline.log_name("supervisor"))
        # Before the model is loaded; each consumer checks again once Redis is reachable.
        check_reachable_redis(settings.redis_url)
        supervisor = _supervisor(settings)
    except (InvalidInput, OSError) as error:
        logs.report_failure("worker", str(error))
        return EXIT_PERMANENT
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    signal.signal(lifeline.SHUTDOWN_SIGNAL, lambda *_: _shut_down(supervisor))
    lifeline.on_supervisor_death(supervisor.stop)
    return supervisor.run()


def _supervisor(settings: WorkerSettings) -> Supervisor:
    run_dir = private_dir(settings.runtime_dir())
    ready_file = settings.ready_file or run_dir / "ready"
    if not ready_file.parent.is_dir():
        raise OSError(f"BLIPLINE_READY_FILE={ready_file}: the directory does not exist")
    choice = parse_devices(settings.devices)
    tree = MachineTree(settings, choice, run_dir) if choice else DeviceTree(settings, run_dir)
    return Supervisor(tree, run_dir, ready_file, _announce)


def _shut_down(supervisor: Supervisor) -> None:
    """End the whole worker: of several devices, the machine's supervisor ends all."""
    if not lifeline.request_shutdown():
        supervisor.drain()


def _announce() -> None:
    """Tell the person or the supervisor that started this process that it takes jobs."""
    if lifeline.is_supervised():
        log.info("ready")
    else:
        print("ready", flush=True)


def _parser(description: str | None) -> ArgumentParser:
    """Return a parser with one option for each setting, so that none is missing."""
    parser = ArgumentParser(
        prog="python -m worker",
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
    )
    for name, field in WorkerSettings.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="VALUE",
            help=f"{field.description} [BLIPLINE_{name.upper()}; default {field.default}]",
        )
    return parser
