"""Several process trees below a supervisor: two on the CPU, with the null model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.stack import ROOT, Worker, free_port, running_redis, running_worker
from producer import Client
from tests.faults.processes import is_alive, losing_readiness, processes_of, send
from tests.monitoring import samples
from tests.redis_servers import wait_until
from worker.processes import process_list
from worker.processes.cores import usable_cores

pytestmark = pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores")

SETTINGS = {
    "BLIPLINE_MODEL": "null",
    "BLIPLINE_DEVICES": "cpu:2",
    "BLIPLINE_BULK_SLOTS": "2",
    "BLIPLINE_INTERACTIVE_SLOTS": "2",
    "BLIPLINE_LEASE_S": "2",
    "BLIPLINE_SWEEP_S": "1",
    "BLIPLINE_GRACE_S": "20",
}
TREES = ["cpu-0", "cpu-1"]
ROLES = ["supervisor", "engine", "interactive", "bulk"]
IMAGE = "https://images.example.com/a.png"
#: Seconds for a tree to restart on a busy machine.
RESTART_S = 120.0
#: Items of a batch that both trees get chunks of.
ITEMS = 2000


@dataclass(frozen=True)
class Stage:
    """A worker with two process trees, and its Redis."""

    url: str
    worker: Worker
    #: The port of the metrics of both trees.
    port: int

    @property
    def ready_file(self) -> Path:
        return self.worker.run_dir / "ready"

    def processes(self, tree: str) -> set[int]:
        """Return the processes of a tree, its supervisor included."""
        return set(processes_of(self.worker.run_dir / tree))

    def health(self, check: str = "--ready") -> tuple[int, str]:
        command = [sys.executable, "-m", "worker", "health", check]
        environment = {**os.environ, "BLIPLINE_RUN_DIR": str(self.worker.run_dir)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture(scope="module")
def stage(url: str) -> Iterator[Stage]:
    """A worker that every test but the last leaves with two trees."""
    port = free_port()
    settings = {**SETTINGS, "BLIPLINE_METRICS_PORT": str(port)}
    with running_worker(url, settings) as worker:
        yield Stage(url, worker, port)


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def answered(url: str, count: int = ITEMS) -> bool:
    """Return whether a batch is answered in full, each item by its own answer."""
    with Client(url) as client:
        items = [{"image": IMAGE, "custom_id": name} for name in names(count)]
        batch = client.submit_batch(items)
        return [result.text for result in batch.results(timeout=120)] == names(count)


def test_both_trees_take_work_in_processes_of_their_own(stage: Stage) -> None:
    code, output = stage.health()
    assert code == 0, output
    lines = [line[:20].rstrip() for line in output.splitlines()]
    assert lines == ["supervisor"] + [
        name
        for tree in ("cpu:0", "cpu:1")
        for name in (tree, f"{tree} engine", f"{tree} interactive", f"{tree} bulk")
    ]
    # Each on its own cores
    cores = [os.sched_getaffinity(min(stage.processes(tree))) for tree in TREES]
    assert not cores[0] & cores[1]
    for tree in TREES:
        assert {frozenset(os.sched_getaffinity(pid)) for pid in stage.processes(tree)} in (
            {frozenset(share)} for share in cores
        )
        assert len(stage.processes(tree)) == len(ROLES)
    metrics = samples(f"http://127.0.0.1:{stage.port}/metrics")
    for device in ("cpu:0", "cpu:1"):
        assert metrics[f"blipline_worker_ready {device}"] == 1
        assert f"blipline_engine_active_rows {device}" in metrics


def test_either_tree_takes_work(stage: Stage) -> None:
    for tree in TREES:
        consumers = processes_of(stage.worker.run_dir / tree, "bulk")
        send(consumers, signal.SIGSTOP)
        assert answered(stage.url)
        send(consumers, signal.SIGCONT)


@pytest.mark.parametrize(
    "roles",
    [
        pytest.param(["supervisor"], id="supervisor"),
        pytest.param(["engine"], id="engine", marks=pytest.mark.exhaustive),
        pytest.param(["bulk"], id="bulk"),
        pytest.param(ROLES, id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_killed_processes_touch_their_own_tree_alone(stage: Stage, roles: list[str]) -> None:
    others = stage.processes("cpu-1")
    victims = [pid for role in roles for pid in processes_of(stage.worker.run_dir / "cpu-0", role)]
    assert len(victims) == len(roles)
    with losing_readiness(stage.ready_file, RESTART_S):
        send(victims, signal.SIGKILL)
    assert stage.health("--live")[0] == 0
    assert answered(stage.url)
    wait_until(stage.ready_file.exists, "readiness of all trees", RESTART_S)
    assert stage.health()[0] == 0
    assert stage.processes("cpu-1") == others
    assert answered(stage.url)


def test_a_worker_ends_under_load_and_the_trees_of_a_killed_one_end(stage: Stage) -> None:
    items = [{"image": IMAGE, "custom_id": name} for name in names(ITEMS)]
    with Client(stage.url) as client:
        batch = client.submit_batch(items)
        wait_until(lambda: batch.progress().done > 0, "the first results", 60)
        stage.worker.process.send_signal(signal.SIGTERM)
        assert stage.worker.process.wait(60) == 0
        assert not stage.ready_file.exists()
        assert process_list.read(stage.worker.run_dir) is None
        assert not any(stage.processes(tree) for tree in TREES)
        # The next worker does the rest, and is killed.
        with running_worker(stage.url, SETTINGS) as worker:
            assert [result.text for result in batch.results(timeout=120)] == names(ITEMS)
            successor = Stage(stage.url, worker, stage.port)
            children = [pid for tree in TREES for pid in successor.processes(tree)]
            assert len(children) == len(TREES) * len(ROLES)
            worker.process.kill()
            wait_until(lambda: not any(map(is_alive, children)), "the end of all processes", 60)
            assert successor.health()[0] == 1


def start(url: str, run_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that cannot start."""
    environment = {
        **os.environ,
        "BLIPLINE_REDIS_URL": url,
        "BLIPLINE_RUN_DIR": str(run_dir),
        "CUDA_VISIBLE_DEVICES": "",
        **{f"BLIPLINE_{name}": value for name, value in settings.items()},
    }
    return subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"DEVICES": "all"}, "no usable CUDA device", marks=pytest.mark.exhaustive),
        ({"DEVICES": "cpu:999"}, "cpu:999 needs a core for each process tree"),
        ({"DEVICES": "cpu:2", "MODEL": "/nowhere"}, "'/nowhere' does not exist"),
        ({"DEVICES": "cpu:2", "VISIBILITY_TIMEOUT_S": "0"}, "BLIPLINE_VISIBILITY_TIMEOUT_S"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(
    url: str, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    done = start(url, tmp_path, **settings)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sum(message in line for line in done.stderr.splitlines()) == 1
    assert "supervisor cpu" not in done.stderr


def test_a_tree_that_fails_from_the_start_ends_the_worker(url: str, tmp_path: Path) -> None:
    (tmp_path / "cpu-0").touch()
    done = start(url, tmp_path, DEVICES="cpu:1", MODEL="null")
    assert done.returncode == 2, done.stderr
    assert "cpu:0 ended with exit code 2: see the message above" in done.stderr
