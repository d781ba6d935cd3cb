"""`python -m benchmarks.cold_start`: an engine's start by hub name against that by directory.

The hub's cache has the model. The hub refuses connections, or accepts them and never answers. The
kinds of start take turns; a start's ratio is to the start with a directory of the same round.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.timing import note
from config.settings import DEMO_MODEL
from demo.stack import free_port, running_engine
from worker.engine.client import EngineClient
from worker.engine.protocol import socket_path

NAME = "owner/demo"
COMMIT = "a" * 40
DIRECTORY = "a directory"


def main() -> int:
    """Print medians and ratios; exit code 1 if a median ratio exceeds the limit."""
    options = _options()
    with tempfile.TemporaryDirectory() as cache, hanging_hub() as hanging:
        fill_cache(Path(cache))
        by_name = {"BLIPLINE_MODEL": NAME, "HF_HUB_CACHE": cache}
        starts = {
            DIRECTORY: {"BLIPLINE_MODEL": str(DEMO_MODEL)},
            "a hub that refuses": {**by_name, "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
            "a hub that hangs": {**by_name, "HF_ENDPOINT": hanging},
        }
        start_s(starts[DIRECTORY])  # warm the file cache
        rounds = [measure_round(starts) for _ in range(options.rounds)]
    print(f"{os.cpu_count()} cores, {platform.machine()}; {options.rounds} rounds\n")
    print("| start with | median, s | median ratio | range |\n|---|---|---|---|")
    worst = 0.0
    for kind in starts:
        median = statistics.median(seconds[kind] for seconds in rounds)
        ratios = sorted(seconds[kind] / seconds[DIRECTORY] for seconds in rounds)
        ratio = statistics.median(ratios)
        worst = max(worst, ratio)
        print(f"| {kind} | {median:.2f} | {ratio:.2f} | {ratios[0]:.2f}-{ratios[-1]:.2f} |")
    return 1 if worst > options.limit else 0


def measure_round(starts: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """Return the seconds of a start of each kind."""
    seconds = {kind: start_s(settings) for kind, settings in starts.items()}
    note(", ".join(f"{kind}: {value:.2f} s" for kind, value in seconds.items()))
    return seconds


def start_s(settings: Mapping[str, str]) -> float:
    """Return the seconds until a new engine describes its model to a client."""
    started = time.perf_counter()
    with running_engine({"BLIPLINE_MATCH_MODEL": "none", **settings}) as engine:
        client = EngineClient(socket_path(engine.run_dir), wait_s=60)
        client.start()
        client.info(timeout_s=60)
        seconds = time.perf_counter() - started
        client.close()
    return seconds


def fill_cache(cache: Path) -> None:
    """Copy the demo model into a cache of the hub, at its branch `main`."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(DEMO_MODEL, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


@contextmanager
def hanging_hub() -> Iterator[str]:
    """Yield the address of a socket whose connections succeed and get no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.1, help="highest median ratio")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
