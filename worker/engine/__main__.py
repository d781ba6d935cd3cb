"""`python -m worker.engine`: load the model, check it, and serve the consumers of this machine.

Exit codes: 0 stopped; 1 the hub cannot be reached now; 2 the model or a setting cannot be used (see
the message); 3 an engine is already running here.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from config.settings import NULL_MODEL, WorkerSettings
from producer.errors import InvalidInput
from producer.observability import logs
from worker.engine.errors import HubUnavailable, LoadError
from worker.engine.model import Model, Vision, as_generator, as_group_generator, as_matcher
from worker.engine.null import NullEngine
from worker.engine.protocol import EngineInfo, ModelInfo, acquire_lock, private_dir, socket_path
from worker.engine.server import EngineServer
from worker.engine.watchdog import Watchdog
from worker.hub.adapters import compose
from worker.hub.reference import HubModel, Snapshot
from worker.hub.resolver import resolve
from worker.metrics.shared_metrics import PROCESS, join_shared_metrics
from worker.processes import lifeline, streams
from worker.processes.cores import usable_cores

if TYPE_CHECKING:
    from worker.engine.engine import Engine

#: Seconds of one core to fetch, decode and resize an image of one megapixel.
PREPARE_S: Final = 0.01
IMAGES_TIMED: Final = 4

EXIT_UNAVAILABLE = 1
EXIT_PERMANENT = 2
EXIT_ALREADY_RUNNING = 3

log = logging.getLogger("worker.engine")


def main() -> int:
    """Run until SIGTERM or, with --linger, until no consumer is connected; return the exit code."""
    streams.protect()
    join_shared_metrics()
    parser = ArgumentParser(prog="python -m worker.engine", description=__doc__)
    parser.add_argument(
        "--linger", type=float, metavar="S", help="exit after S seconds without a consumer"
    )
    parser.add_argument(
        "--directory",
        action="append",
        type=Path,
        metavar="DIR",
        help="directory of each model and adapter, in the order in which the supervisor finds them;"
        " default: found by its name",
    )
    arguments = parser.parse_args()
    linger_s = arguments.linger
    # The supervisor handles Ctrl-C. An engine without a supervisor ends by SIGTERM or --linger.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        settings = WorkerSettings.load()
        logs.configure(settings, lifeline.log_name("engine"))
        run_dir = private_dir(settings.runtime_dir())
        socket = socket_path(run_dir)
        # Locked until this process ends.
        lock = acquire_lock(run_dir / "engine.lock")
    except (InvalidInput, OSError) as error:
        return _report_unusable(str(error))
    if lock is None and linger_s is not None:
        # The consumer that started this process connects to the running engine.
        return EXIT_ALREADY_RUNNING
    if lock is None:
        return _report_unusable(
            f"an engine is already running in {run_dir}. There is one per accelerator; "
            "to run another, set BLIPLINE_RUN_DIR",
            EXIT_ALREADY_RUNNING,
        )
    with lock:
        return _run(settings, socket, linger_s, arguments.directory)


def _run(
    settings: WorkerSettings, socket: Path, linger_s: float | None, directories: list[Path] | None
) -> int:
    if settings.model == NULL_MODEL:
        return _serve(NullEngine(), (), settings, socket, linger_s)
    try:
        snapshots = find_snapshots(settings, directories)
    except LoadError as error:
        unavailable = isinstance(error, HubUnavailable)
        return _report_unusable(str(error), EXIT_UNAVAILABLE if unavailable else EXIT_PERMANENT)
    # torch's threads must not spin while they wait: consumers decode images on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Late imports: they take seconds, and the settings are checked first. The garbage collector
    # need not visit what they create: it lives as long as the process.
    gc.disable()
    import torch

    from worker.engine.selfcheck import check
    from worker.engine.warmup import warm_up
    from worker.models import checkpoint  # noqa: F401 (imports transformers)

    gc.freeze()
    gc.enable()
    torch.set_num_threads(settings.cpu_threads or len(usable_cores()))
    try:
        engine = build_engine(settings, snapshots)
        models = engine.models
        if not settings.cpu_threads and models[0].device.type == "cpu" and engine.encoders:
            reserve_core(engine.encoders[0].model)
        warm_up(engine)
        check(engine)
    except LoadError as error:
        return _report_unusable(str(error))
    names = " and ".join(model.name for model in models)
    log.info("%s: ready, up to %s rows on %s", names, settings.max_rows, models[0].device)
    return _serve(engine, tuple(map(model_info, models)), settings, socket, linger_s)


def _serve(
    engine: Engine | NullEngine,
    models: tuple[ModelInfo, ...],
    settings: WorkerSettings,
    socket: Path,
    linger_s: float | None,
) -> int:
    info = EngineInfo(os.getpid(), models)
    watchdog = Watchdog(settings.step_timeout_s)
    metrics = engine.metrics
    metrics.describe(model.name for model in models)

    def heartbeat() -> None:
        lifeline.report()
        metrics.publish(engine.stats)

    server = EngineServer(engine, info, linger_s, watchdog, on_heartbeat=heartbeat)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    # The consumers still need the engine to finish their chunks.
    lifeline.on_supervisor_death(server.finish)
    if settings.metrics_port and PROCESS not in os.environ:
        try:
            metrics.serve(settings.metrics_port)
        except OSError as error:
            return _report_unusable(
                f"BLIPLINE_METRICS_PORT={settings.metrics_port}: {error.strerror}"
            )
    server.serve(socket)
    return 0


def find_snapshots(
    settings: WorkerSettings, directories: Sequence[Path] | None = None
) -> list[Snapshot]:
    """Return the files of the settings' models: in the given directories, or found by name.

    Raises LoadError.
    """
    models = settings.checkpoints()
    if directories is None:
        snapshots = [resolve(*model, offline=settings.offline) for model in models]
    else:
        given = iter(directories)
        snapshots = [compose(*model, lambda parsed: _at(parsed, given)) for model in models]
    for snapshot in snapshots:
        log.info("model %s", snapshot)
    return snapshots


def _at(parsed: Snapshot | HubModel, directories: Iterator[Path]) -> Snapshot:
    """Return the files of a reference in the next directory."""
    directory = next(directories)
    return parsed if isinstance(parsed, Snapshot) else parsed.at(directory)


def build_engine(settings: WorkerSettings, snapshots: Sequence[Snapshot]) -> Engine:
    """Load the models of the settings, a generator or matcher or both. Raises LoadError."""
    from worker.engine.engine import Engine
    from worker.engine.warmup import rows_must_fit
    from worker.models.registry import load

    loaded = []
    for snapshot in snapshots:
        model = load(
            snapshot,
            settings.precision,
            settings.device,
            vqa_template=settings.vqa_template,
            image_side=settings.image_side,
            image_backend=settings.image_backend,
        )
        loaded.append(model)
    matcher = as_matcher(loaded[-1])
    if len(loaded) == 2 and (as_matcher(loaded[0]) is not None or matcher is None):
        raise LoadError(
            "BLIPLINE_MODEL must be a model that generates text, and BLIPLINE_MATCH_MODEL a"
            f" retrieval model; {loaded[0].name!r} offers {', '.join(sorted(loaded[0].tasks))} and"
            f" {loaded[1].name!r} {', '.join(sorted(loaded[1].tasks))}."
        )
    with rows_must_fit(loaded[0]):
        return Engine(
            as_generator(loaded[0]),
            matcher,
            as_group_generator(loaded[0]),
            max_rows=settings.max_rows,
            feature_bytes=settings.feature_cache_mb * 1024 * 1024,
            cuda_graphs=settings.cuda_graphs,
        )


def model_info(model: Model) -> ModelInfo:
    """Return the description of a model that consumers receive."""
    return ModelInfo(
        model.name,
        model.revision,
        model.image_size,
        model.resample,
        tuple(sorted(model.tasks)),
        model.commit,
        None if model.keeps_proportions else cast("Vision", model).frame,
        model.keeps_proportions,
        model.adapters.infos,
        model.image_backend,
    )


def reserve_core(model: Vision) -> None:
    """Reserve a core for image decoding if that takes longer than the model's forward pass."""
    import torch

    shape = (IMAGES_TIMED, model.frame.height, model.frame.width, 3)
    pixels = torch.zeros(shape, dtype=torch.uint8)
    model.encode(pixels)
    started = time.perf_counter()
    model.encode(pixels)
    if time.perf_counter() - started < IMAGES_TIMED * PREPARE_S:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def _report_unusable(reason: str, code: int = EXIT_PERMANENT) -> int:
    logs.report_failure("engine", reason)
    return code


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The interpreter's own shutdown would spend a second on torch.
    os._exit(code)
