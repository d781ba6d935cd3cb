"""Kill -9 of a process that a run depends on, in its middle: each image gets its caption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from demo import tour
from demo.scenes import draw, random_scene
from demo.stack import running_worker
from producer import Client
from producer.cli.exit_codes import Exit
from tests.annotate.test_local import descendants, is_running
from tests.cli.shell import PROGRAM
from tests.echo_worker import ENVIRONMENT, SIDE, answer_to
from tests.redis_servers import Server, wait_until
from tests.system import reference

# Each waits for restarts, which take long on a busy machine.
pytestmark = pytest.mark.timeout(600)

#: Short times until a message counts as lost, and until the command gives up on Redis.
SETTINGS = {
    "BLIPLINE_MATCH_MODEL": "none",
    "BLIPLINE_STEP_TIMEOUT_S": "4",
    "BLIPLINE_LEASE_S": "5",
    "BLIPLINE_SWEEP_S": "1",
    "BLIPLINE_REDIS_WAIT_S": "15",
}
#: Seconds until a process that is stopped has left work undone.
STOPPED_S = 0.5
#: Seconds for a restart of a worker, on a busy machine.
PATIENCE_S = 200.0
#: A part of the command line of each process below a command with `--local` that is started again.
VICTIMS = {
    "engine": b"\0worker.engine\0",
    "consumer": b"\0-Q\0bulk\0",
    "supervisor": b"\0-m\0worker\0",
    "redis-server": b"redis-server",
}
#: The arguments of the keeper name the redis-server.
KEEPER = b"keeper.py"


class Run:
    """A run over images that come by and by: while it waits for further ones, it does not end."""

    def __init__(self, *arguments: str) -> None:
        command = [*PROGRAM, "annotate", "-", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def feed(self, pictures: Sequence[Path]) -> None:
        """Give the run images."""
        assert self.process.stdin is not None
        self.process.stdin.writelines(f"{picture}\n" for picture in pictures)
        self.process.stdin.flush()

    def wait_for_captions(self, pictures: Sequence[Path]) -> None:
        """Wait until the images have captions."""

        def is_done() -> bool:
            assert self.process.poll() is None
            return all(map(caption_of, pictures))

        wait_until(is_done, f"captions of {[str(picture) for picture in pictures]}", PATIENCE_S)

    def end(self) -> int:
        """Give no further images; return the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Return a function that starts a run."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    runs: list[Run] = []

    def create(*arguments: str) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield create
    for run in runs:
        run.process.kill()
        run.end()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Scenes whose pixels reach the engine unchanged."""
    rng, paths = Random(7), [tmp_path / f"{number}.png" for number in range(18)]
    for path in paths:
        draw(random_scene(rng), SIDE, SIDE).save(path)
    return paths


def caption_of(picture: Path) -> str:
    """Return the text of a caption file; empty if there is none."""
    path = picture.with_suffix(".txt")
    return path.read_text() if path.exists() else ""


def processes_below(process: int, part: bytes) -> list[int]:
    """Return the processes below a process whose command line has a part."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(process)}
    return [
        pid
        for pid, command in commands.items()
        if part in command and (part == KEEPER or KEEPER not in command)
    ]


def signal_all(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, of which there are some."""
    assert processes
    for process in processes:
        os.kill(process, number)


def kill_with_work(run: Run, victim: str, work: Sequence[Path]) -> None:
    """Kill a process that has work which is not done, and wait for this work."""
    victims = processes_below(run.process.pid, VICTIMS[victim])
    if victim == "supervisor":
        # Stopped, it would not keep the others from the work: it dies when the work begins.
        run.feed(work)
    else:
        signal_all(victims, signal.SIGSTOP)
        run.feed(work)
        time.sleep(STOPPED_S)
    assert not any(map(caption_of, work))
    signal_all(victims, signal.SIGKILL)
    run.wait_for_captions(work)


@pytest.mark.exhaustive
def test_a_killed_engine_of_a_local_run_starts_again_and_captions_are_those_of_the_model(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Run], tmp_path: Path
) -> None:
    monkeypatch.delenv("BLIPLINE_REDIS_URL")
    pictures = [Path(shutil.copy(path, tmp_path)) for path in tour.pictures()]
    run = start("--local")
    first, work = pictures[-6:-3], pictures[-3:]
    run.feed(first)
    run.wait_for_captions(first)
    kill_with_work(run, "engine", work)
    assert run.end() == Exit.OK
    for picture in first + work:
        with Image.open(picture) as image:
            assert caption_of(picture) == f"{reference.caption(image)}\n"
    # The largest image, which is the easiest for the model.
    truth = json.loads((tour.IMAGES / "truth.json").read_text())["scene-18.jpg"]["caption"]
    assert caption_of(pictures[-1]) == f"{truth}\n"


def test_killed_processes_of_a_local_run_start_again_and_captions_are_those_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Run], pictures: list[Path]
) -> None:
    monkeypatch.delenv("BLIPLINE_REDIS_URL")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    arguments = ("--local", "--model", "null")
    run = start(*arguments)
    run.feed(pictures[:3])
    run.wait_for_captions(pictures[:3])
    for number, victim in enumerate(VICTIMS, start=1):
        kill_with_work(run, victim, pictures[3 * number : 3 * (number + 1)])
    # Without the keeper nothing starts its processes again: the same command does.
    everything = descendants(run.process.pid)
    signal_all(processes_below(run.process.pid, KEEPER), signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, everything)), "the end of all processes", PATIENCE_S)
    run.feed(pictures[15:])
    assert run.end() == Exit.NO_REDIS
    assert not any(map(caption_of, pictures[15:]))
    run = start(*arguments)
    run.feed(pictures)
    assert run.end() == Exit.OK
    for picture in pictures:
        with Image.open(picture) as image:
            assert caption_of(picture) == f"{answer_to(image)}\n"


def test_a_killed_redis_starts_again_with_its_data_or_empty(
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., Run],
    pictures: list[Path],
    tmp_path: Path,
    server: Server,
) -> None:
    url = f"redis://127.0.0.1:{server.port}/0"
    monkeypatch.setenv("BLIPLINE_REDIS_URL", url)
    settings = {**SETTINGS, "BLIPLINE_MODEL": "null"}
    with Client(url) as client, running_worker(url, settings) as worker:
        run = start()
        for is_empty, work in ((False, pictures[:3]), (True, pictures[3:6])):
            consumers = processes_below(worker.process.pid, VICTIMS["consumer"])
            signal_all(consumers, signal.SIGSTOP)
            run.feed(work)
            wait_until(lambda: client.statistics().open_batches == 1, "the job of the images")
            server.kill()
            if is_empty:
                (tmp_path / f"{server.port}.aof").unlink()
            server.start()
            signal_all(consumers, signal.SIGCONT)
            run.wait_for_captions(work)
        assert run.end() == Exit.OK
    assert len(set(map(caption_of, pictures[:6]))) == 6
