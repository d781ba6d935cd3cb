"""`python -m worker.engine`: load the model, check it, serve the consumers of this machine.

Exit codes: 0 stopped; 2 the model or a setting cannot be used (the message says why); 3 there is
an engine here already.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config.settings import WorkerSettings
from producer.errors import InvalidInput
from worker import child
from worker.engine.protocol import EngineInfo, hold_lock, private_dir, socket_path

if TYPE_CHECKING:
    from worker.models import Model

#: Seconds that fetching, decoding and resizing a picture of a megapixel takes one core.
PREPARE_S: Final = 0.01
IMAGES_TIMED: Final = 4

EXIT_UNUSABLE = 2
EXIT_TAKEN = 3

log = logging.getLogger("worker.engine")


def main() -> int:
    """Run until SIGTERM, or for as long as consumers are there (--linger)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine %(levelname)s %(message)s")
    parser = ArgumentParser(prog="python -m worker.engine", description=__doc__)
    parser.add_argument(
        "--linger", type=float, metavar="S", help="end after S seconds without a consumer"
    )
    linger_s = parser.parse_args().linger
    # Ctrl-C belongs to the supervisor; a lone engine ends by SIGTERM or by lingering.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        settings = WorkerSettings.load()
        run_dir = private_dir(settings.runtime_dir())
        socket = socket_path(run_dir)
        # Held until this process ends, whichever way.
        lock = hold_lock(run_dir / "engine.lock")
    except (InvalidInput, OSError) as error:
        return _refuse(str(error))
    if lock is None:
        print(
            f"engine: one runs in {run_dir} already; an accelerator has one engine. "
            "For a second one set BLIPLINE_RUN_DIR",
            file=sys.stderr,
        )
        return EXIT_TAKEN
    with lock:
        return _serve(settings, socket, linger_s)


def _serve(settings: WorkerSettings, socket: Path, linger_s: float | None) -> int:
    # torch's threads must sleep while they wait, not spin: consumers decode on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Seconds of imports: not before the settings are known to be good.
    import torch

    from worker.engine.loop import Engine
    from worker.engine.process import EngineServer
    from worker.engine.selfcheck import check
    from worker.models import LoadError, load

    torch.set_num_threads(settings.cpu_threads or os.cpu_count() or 1)
    try:
        model = load(
            settings.model, settings.precision, settings.device, vqa_template=settings.vqa_template
        )
        engine = Engine(
            model,
            max_rows=settings.max_rows,
            feature_bytes=settings.feature_cache_mb * 1024 * 1024,
        )
        if not settings.cpu_threads and model.device.type == "cpu":
            leave_a_core(model)
        engine.warm_up()
        check(engine)
    except LoadError as error:
        return _refuse(str(error))
    info = EngineInfo(
        model=model.name,
        revision=model.revision,
        image_size=model.image_size,
        resample=model.resample,
        tasks=tuple(sorted(model.tasks)),
        pid=os.getpid(),
    )
    server = EngineServer(engine, info, linger_s)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    # The consumers finish what they hold, and need the engine for it.
    child.when_orphaned(server.finish)
    log.info("%s is warm: %s rows at most on %s", model.name, settings.max_rows, model.device)
    server.serve(socket, on_listening=child.announce)
    return 0


def leave_a_core(model: Model) -> None:
    """Leave a core to those who prepare images, where that takes longer than the model does."""
    import torch

    side = model.image_size
    pixels = torch.zeros(IMAGES_TIMED, side, side, 3, dtype=torch.uint8)
    model.encode(pixels)
    began = time.perf_counter()
    model.encode(pixels)
    if time.perf_counter() - began < IMAGES_TIMED * PREPARE_S:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def _refuse(reason: str) -> int:
    print(f"engine: {reason}", file=sys.stderr, flush=True)
    return EXIT_UNUSABLE


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The interpreter would spend a second on taking torch apart, while the machine is to be free.
    os._exit(code)
