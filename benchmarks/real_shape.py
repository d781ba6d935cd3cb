"""`python -m benchmarks.real_shape`: the real worker with a checkpoint of a published shape.

Writes random weights of the exact shape of blip2-opt-2.7b (7.5 GB in bf16, into a temporary
directory that is deleted at the end), starts Redis and a worker with it, and captions a few
pictures through the queue. Prints the seconds from the worker's start until it is ready, the
engine's peak memory and the seconds per image. `--phases` loads the model in this process
instead and prints time and memory of each phase of the start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.pictures import pictures
from benchmarks.real_checkpoint import directory_bytes, write_blip2, write_blip_large
from benchmarks.timing import note, timed
from demo.stack import running_redis
from producer import Client

ROOT: Final = Path(__file__).resolve().parent.parent
WRITERS: Final = {"blip2-opt-2.7b": write_blip2, "blip-large": write_blip_large}
#: Timeouts of the worker's start and of all answers.
START_S: Final = 1800.0
ANSWER_S: Final = 1800.0


def main() -> int:
    """Print the report."""
    options = _options()
    if options.at:
        measure(options.at, options)
        return 0
    with tempfile.TemporaryDirectory(prefix="blipline-shape-", dir=options.dir) as directory:
        _, seconds = timed(lambda: WRITERS[options.model](Path(directory)))
        print(f"{options.model} with random weights, written in {seconds:.0f} s")
        measure(directory, options)
    return 0


def measure(model: str, options: Namespace) -> None:
    """Measure one checkpoint in one precision."""
    print(f"{directory_bytes(Path(model)) / 1e9:.2f} GB, as {options.precision}", flush=True)
    if options.phases:
        phases(model, options)
    else:
        serve(model, options)


def serve(model: str, options: Namespace) -> None:
    """Caption pictures through the queue."""
    settings = {
        "BLIPLINE_MODEL": model,
        "BLIPLINE_PRECISION": options.precision,
        "BLIPLINE_DEVICE": options.device,
        "BLIPLINE_CPU_THREADS": str(options.threads),
        "BLIPLINE_MAX_ROWS": str(options.rows),
    }
    with running_redis() as url:
        started = time.perf_counter()
        with running_worker(url, settings) as worker, Client(url) as client:
            print(f"ready after {time.perf_counter() - started:.1f} s", flush=True)
            engine = engine_of(worker.pid)
            report_memory(engine, "peak until ready", model)
            images = pictures(options.images, 7)
            batch = client.submit_batch(images)
            answers, seconds = timed(lambda: list(batch.results(timeout=ANSWER_S)))
            for answer in answers:
                note(f"  {(answer.text or answer.error)!s:.80}")
            print(f"{seconds / len(images):.1f} s per image, {len(images)} at once")
            report_memory(engine, "peak in the end", model)


def phases(model: str, options: Namespace) -> None:
    """Run the phases of the engine's start in this process, one after the other."""
    import torch

    from worker.engine.engine import Engine
    from worker.engine.model import as_generator
    from worker.engine.selfcheck import check
    from worker.engine.warmup import warm_up
    from worker.models.registry import load

    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    results: list[Any] = []
    steps: dict[str, Callable[[], Any]] = {
        "load": lambda: results.append(load(model, options.precision, options.device)),
        "slots": lambda: results.append(Engine(as_generator(results[0]), max_rows=options.rows)),
        "warm-up": lambda: warm_up(results[1]),
        "self-check": lambda: check(results[1]),
    }
    for name, step in steps.items():
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        _, seconds = timed(step)
        print(f"{name}: {seconds:.1f} s", flush=True)
        report_memory(os.getpid(), f"  peak of {name}", model)


def report_memory(process: int, name: str, model: str) -> None:
    """Print the memory of a process in relation to the checkpoint."""
    peak, now = (status_bytes(process, field) for field in ("VmHWM", "VmRSS"))
    ratio = peak / directory_bytes(Path(model))
    print(f"{name}: {peak / 1e9:.2f} GB, {ratio:.2f} x the checkpoint; now {now / 1e9:.2f} GB")


def status_bytes(process: int, field: str) -> int:
    """Return a field of /proc/<process>/status in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{process}/status has no field {field}")


def engine_of(supervisor: int) -> int:
    """Return the process id of a supervisor's engine."""
    for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        if b"worker.engine" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise RuntimeError("the worker has no engine")


@contextmanager
def running_worker(url: str, settings: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker and wait until it is ready; a large model may take many minutes."""
    with tempfile.TemporaryDirectory(prefix="blipline-") as run_dir:
        environment = {**os.environ, **settings, "BLIPLINE_REDIS_URL": url}
        environment["BLIPLINE_RUN_DIR"] = run_dir
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker"], cwd=ROOT, env=environment, stdout=sys.stderr.fileno()
        )
        try:
            deadline = time.monotonic() + START_S
            while not Path(run_dir, "ready").exists():
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the worker did not start")
                time.sleep(0.1)
            yield worker
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(120)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.real_shape", description=__doc__)
    parser.add_argument("--model", choices=WRITERS, default="blip2-opt-2.7b")
    parser.add_argument("--at", metavar="DIR", help="an existing checkpoint")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rows", type=int, default=8, help="maximum rows decoded together")
    parser.add_argument("--threads", type=int, default=0, help="threads of the model; 0: all cores")
    parser.add_argument("--dir", help="parent of the temporary directory")
    parser.add_argument("--phases", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
