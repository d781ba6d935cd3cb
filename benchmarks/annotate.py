"""`python -m benchmarks.annotate`: `blipline annotate` over a folder, against the queue's own rate.

(1) A client submits the files as one batch and reads the results, which writes no file.
(2) The command annotates the same folder in one run, into caption files, and (3) into a table.
These three are repeated in turn; the report has the medians.
(4) It annotates the folder again, without a journal, and is killed three times with SIGKILL.

The worker has BLIPLINE_MODEL=null, so the texts are ids that contain the hash of the image: each
caption file must have that of its own image. A real model takes longer for each image, so the
overhead, which is seconds of processor time for each image, is a smaller part of its rate.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.timing import note
from demo.stack import ROOT, running_redis, running_worker
from producer import Client

NULL: Final = {"BLIPLINE_MODEL": "null"}
COMMAND: Final = [sys.executable, "-m", "producer.cli", "annotate"]
#: Seconds between two looks at the progress of a run that will be killed.
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Cost:
    """The cost of a process."""

    seconds: float
    #: Processor time of the process, and of the kernel for it.
    user_s: float
    system_s: float
    peak_mib: float
    #: Resident MiB at each tenth of the images.
    memory_mib: tuple[float, ...] = ()

    @property
    def cpu_s(self) -> float:
        """Return all of its processor time."""
        return self.user_s + self.system_s


@dataclass(frozen=True)
class Round:
    """The costs of one round."""

    queue: Cost
    files: Cost
    table: Cost


def main() -> int:
    """Print a report; exit code 1 if any caption is missing or wrong."""
    options = _options()
    with (
        tempfile.TemporaryDirectory(prefix="blipline-annotate-") as directory,
        running_redis() as url,
        running_worker(url, NULL, quiet=True),
    ):
        folder = Path(directory, "photos")
        note("writing images")
        expected = make_collection(folder, options.images, options.bytes)
        rounds, wrong = [], 0
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            queue = queue_alone(url, folder)
            files = run_to_end(url, folder, options.images)
            wrong += wrong_captions(folder, expected)
            set_aside(folder, Path(directory, f"captions-{number}"))
            table = _cost([*COMMAND, str(folder), "-o", f"{directory}/{number}.jsonl"], url)
            rounds.append(Round(queue, files, table))
        note("a killed run")
        kills = killed(url, folder, options.images, options.kills)
        killed_wrong = wrong_captions(folder, expected)
    report(options, rounds, kills, wrong, killed_wrong)
    return 1 if wrong or killed_wrong else 0


def make_collection(folder: Path, images: int, size_bytes: int) -> dict[str, str]:
    """Write files of random bytes in folders of a thousand; return the hash of each."""
    expected = {}
    for number in range(images):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = hashlib.shake_128(str(number).encode()).digest(size_bytes)
        path.write_bytes(data)
        expected[str(path.relative_to(folder).with_suffix(".txt"))] = hashlib.sha256(
            data
        ).hexdigest()
    return expected


def queue_alone(url: str, folder: Path) -> Cost:
    """Submit the files as a batch and read its results, in a process of its own."""
    program = (
        "import sys; from benchmarks.annotate import submit_and_read; "
        f"submit_and_read({url!r}, {str(folder)!r})"
    )
    return _cost([sys.executable, "-c", program], url)


def submit_and_read(url: str, folder: str) -> None:
    """Submit each file of a folder, and read the results."""
    paths = sorted(Path(folder).rglob("*.jpg"))
    items = ({"image": path, "custom_id": str(number)} for number, path in enumerate(paths))
    with Client(url) as client:
        batch = client.submit_batch(items)
        failed = sum(not result.ok for result in batch.results())
        batch.delete()
    if failed:
        raise SystemExit(f"{failed} items failed")


def run_to_end(url: str, folder: Path, images: int) -> Cost:
    """Annotate the folder in one run."""
    return _cost([*COMMAND, str(folder)], url, folder, images)


def killed(url: str, folder: Path, images: int, kills: int) -> list[int]:
    """Kill the command `kills` times, and let it end; return the captions at each kill."""
    counts = []
    for kill in range(1, kills + 1):
        process = _start([*COMMAND, str(folder)], url)
        while process.poll() is None and _captions(folder) < images * kill // (kills + 1):
            time.sleep(POLL_S)
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(_captions(folder))
    subprocess.run([*COMMAND, str(folder)], env=_environment(url), cwd=ROOT, check=True)
    return counts


def wrong_captions(folder: Path, expected: dict[str, str]) -> int:
    """Return the number of captions that are missing, wrong, or of no image."""
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.txt")}
    wrong = sum(
        not (text := texts.pop(name, "")).startswith(content) or text.count("\n") != 1
        for name, content in expected.items()
    )
    return wrong + len(texts) + sum(1 for _ in folder.rglob("*.part"))


def set_aside(folder: Path, target: Path) -> None:
    """Move the captions and the journal out of the folder.

    Deleted files would make the next round slower: ext4 looks for inodes whose files were not
    deleted in the last minutes.
    """
    for pattern in ("*.txt", ".blipline-annotate.db*"):
        for path in list(folder.rglob(pattern)):
            moved = target / path.relative_to(folder)
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)


def report(
    options: Namespace, rounds: list[Round], kills: list[int], wrong: int, killed_wrong: int
) -> None:
    """Print the figures."""
    print(
        f"{os.cpu_count()} cores; {options.images:,} images of {options.bytes:,} bytes; "
        f"null engine; medians of {len(rounds)} rounds\n"
    )
    queue = _print_costs("the queue itself", options.images, [r.queue for r in rounds])
    for name, costs in (
        ("caption files", [r.files for r in rounds]),
        ("table", [r.table for r in rounds]),
    ):
        cpu_us = _print_costs(f"blipline annotate, {name}", options.images, costs)
        overhead = cpu_us - queue
        print(
            f"    overhead: {overhead:,.0f} µs of processor time an image: "
            f"{100 * overhead / options.model_us:.1f} % of a model's {options.model_us:,} µs"
        )
    memory = rounds[-1].files.memory_mib
    print(f"resident MiB at each tenth: {', '.join(f'{m:.0f}' for m in memory)}")
    print(f"captions missing, wrong or surplus: {wrong} in runs to the end")
    at = ", ".join(f"{count:,}" for count in kills)
    print(f"killed with SIGKILL at {at} captions and resumed: {killed_wrong} wrong")


def _print_costs(name: str, images: int, costs: list[Cost]) -> float:
    """Print the medians; return the processor time of an image in microseconds."""
    user = 1e6 * median(cost.user_s for cost in costs) / images
    system = 1e6 * median(cost.system_s for cost in costs) / images
    print(
        f"{name}: {images / median(cost.seconds for cost in costs):,.0f} images/s; processor time "
        f"{user:,.0f} µs an image, of the kernel {system:,.0f}; peak "
        f"{max(cost.peak_mib for cost in costs):,.0f} MiB"
    )
    return user + system


def _cost(command: list[str], url: str, folder: Path | None = None, images: int = 0) -> Cost:
    """Run a program; measure its time, its processor time and its memory."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = _start(command, url)
    memory: list[float] = []
    while process.poll() is None:
        if folder is not None and _captions(folder) >= images * (len(memory) + 1) // 10:
            memory.append(_resident_mib(process.pid))
        time.sleep(POLL_S if folder is None else 10 * POLL_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{command} ended with exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user_s, system_s = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Cost(seconds, user_s, system_s, max([*memory, after.ru_maxrss / 1024]), tuple(memory))


def _start(command: list[str], url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "BLIPLINE_REDIS_URL": url, "PYTHONPATH": str(ROOT)}


def _captions(folder: Path) -> int:
    """Count the caption files: those of complete folders from their number."""
    return sum(
        sum(name.endswith(".txt") for name in os.listdir(subfolder.path))
        for subfolder in os.scandir(folder)
        if subfolder.is_dir()
    )


def _resident_mib(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.annotate", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=50_000, help="bytes of each image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument(
        "--model-us",
        type=int,
        default=5_700,
        help="microseconds of the model for an image, of which the overhead is a share; "
        "default: those of the demo model on 2 cores",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
