"""`python -m benchmarks.annotate_rate`: the rate of `blipline annotate` with the demo model.

The same JPEGs of 640 x 480 go (1) as one batch through a client that reads the results, (2) through
the command into a table, and (3) through the command into caption files; the three alternate, and
the report has the ratio of their rates. Each caption of the command must equal the batch's. The
worker's caches are off. `benchmarks.annotate` measures processor time, with more images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.annotate import COMMAND, set_aside
from benchmarks.pictures import pictures
from benchmarks.stack import SETTINGS
from benchmarks.timing import note
from config.settings import DEMO_MODEL
from demo.stack import ROOT, running_redis, running_worker
from producer import Client

Captions = dict[str, str]


def main() -> int:
    """Print the rates; exit code 1 if a caption differs."""
    parser = ArgumentParser(prog="python -m benchmarks.annotate_rate", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="blipline-annotate-") as directory,
        running_redis() as url,
        running_worker(url, {**SETTINGS, "BLIPLINE_MODEL": str(DEMO_MODEL)}, quiet=True),
    ):
        folder = Path(directory, "photos")
        folder.mkdir()
        note("drawing pictures")
        for number, image in enumerate(pictures(options.images, seed=1)):
            (folder / f"{number:06d}.jpg").write_bytes(image)
        ways: dict[str, Callable[[], Captions]] = {
            "one batch": lambda: through_queue(url, folder),
            "annotate, table": lambda: into_table(url, folder),
            "annotate, caption files": lambda: into_files(url, folder),
        }
        expected = ways["one batch"]()  # warm
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        wrong = 0
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            for name, way in ways.items():
                started = time.perf_counter()
                captions = way()
                seconds[name].append(time.perf_counter() - started)
                wrong += sum(captions.get(key) != text for key, text in expected.items())
                set_aside(folder, Path(directory, f"{number} {name}"))
    print(f"{os.cpu_count()} cores; {options.images:,} images; medians of {options.rounds} rounds")
    for name, times in seconds.items():
        ratios = [queue / own for queue, own in zip(seconds["one batch"], times, strict=True)]
        print(
            f"{name}: {options.images / median(times):,.0f} images/s, {median(ratios):.3f} of the "
            f"batch's rate ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    print(f"captions that differ: {wrong}")
    return 1 if wrong else 0


def through_queue(url: str, folder: Path) -> Captions:
    """Submit the files as a batch from a process of its own, and read the results."""
    program = (
        "import sys; from benchmarks.annotate_rate import print_captions; "
        f"print_captions({url!r}, {str(folder)!r})"
    )
    output = _run([sys.executable, "-c", program], url)
    captions: Captions = json.loads(output)
    return captions


def print_captions(url: str, folder: str) -> None:
    """Caption each file of a folder by a batch; print the captions as JSON."""
    paths = sorted(Path(folder).glob("*.jpg"))
    items = ({"image": path, "custom_id": path.stem} for path in paths)
    with Client(url) as client:
        batch = client.submit_batch(items)
        print(json.dumps({result.custom_id: result.text for result in batch.results()}))
        batch.delete()


def into_table(url: str, folder: Path) -> Captions:
    """Annotate the folder into a table."""
    table = folder / "captions.jsonl"
    _run([*COMMAND, str(folder), "-o", str(table)], url)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for path in folder.glob("*captions.jsonl*"):
        path.unlink()
    return {Path(row["file_name"]).stem: row["text"] for row in rows}


def into_files(url: str, folder: Path) -> Captions:
    """Annotate the folder into caption files."""
    _run([*COMMAND, str(folder)], url)
    return {path.stem: path.read_text().strip() for path in folder.glob("*.txt")}


def _run(command: list[str], url: str) -> str:
    environment = {**os.environ, "BLIPLINE_REDIS_URL": url, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())
