"""Lanes of a test run: every test runs once, and a lane's death harms no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.redis_servers import wait_until

_CONFTEST = """
import os
from pathlib import Path
import pytest
from tests.lanes import pytest_addoption, pytest_collection_modifyitems, pytest_configure
from tests.lanes import pytest_runtestloop

LOG = Path(__file__).with_name("log")

def log(line):
    with LOG.open("a") as file:
        file.write(line + "\\n")

@pytest.fixture(scope="session", autouse=True)
def server():
    log(f"start {os.getpid()}")
    yield
    log(f"stop {os.getpid()}")

@pytest.fixture(autouse=True)
def logged(request):
    log(f"test {os.getpid()} {request.node.nodeid}")
"""
_PASSING = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_passes(number, tmp_path):
    (tmp_path / "file").write_text("x")
"""
#: The handler's stream is that of the collection.
_FAILING = """
import logging
import os
import sys

handler = logging.StreamHandler()

def test_fails():
    handler.emit(logging.makeLogRecord({"msg": "logged"}))
    print("printed")
    os.write(2, b"written")
    assert 1 == 2
"""
_OUTPUT = ("logged", "printed", "written")
#: Its teardown lasts until a second signal has come.
_WAITING = """
import time
import pytest

@pytest.fixture
def slow_to_end():
    yield
    time.sleep(0.5)

@pytest.mark.parametrize("number", range(2))
def test_waits(number, slow_to_end):
    time.sleep(60)
"""
_LEAVING = """
def test_leaves():
    garbage = [open("/dev/null")]
    garbage.append(garbage)
"""


class Project:
    """A directory of tests that runs in lanes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "conftest.py").write_text(_CONFTEST)
        (path / "log").touch()
        for name in ("a", "b", "c"):
            self.add(name, _PASSING)

    def add(self, name: str, text: str) -> None:
        """Add a module of tests."""
        (self.path / f"test_{name}.py").write_text(text)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a run in three lanes."""
        command = [
            sys.executable,
            *["-m", "pytest", "--lanes=3", "-W", "error", "-p", "no:cacheprovider"],
        ]
        return subprocess.Popen(
            [*command, f"--rootdir={self.path}", "-c", os.devnull, *options, self.path],
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTEST_ADDOPTS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def log(self) -> list[list[str]]:
        """Return the events of the lanes so far: kind, process, and a test's name."""
        return [line.split(" ", 2) for line in (self.path / "log").read_text().splitlines()]

    def check_fixtures_ended(self) -> None:
        """Check that each lane ended its session's fixtures."""
        started, ended = (
            sorted(pid for event, pid, *_ in self.log() if event == kind)
            for kind in ("start", "stop")
        )
        assert started == ended


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_each_test_runs_once_and_a_module_in_a_single_lane(project: Project) -> None:
    output, _ = (run := project.start()).communicate(timeout=60)
    assert run.returncode == 0, output
    assert "60 passed" in output
    tests = [(name, pid) for event, pid, *names in project.log() for name in names]
    assert len(tests) == len(dict(tests)) == 60
    lanes = {(name.partition("::")[0], pid) for name, pid in tests}
    assert len(lanes) == 3
    project.check_fixtures_ended()


def test_failures_and_deaths_are_reported_and_another_lane_goes_on(project: Project) -> None:
    project.add("d", _FAILING)
    dies = "import os, signal\n\ndef test_dies():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    project.add("e", dies + "\ndef test_after():\n    pass\n")
    project.add("f", _LEAVING)
    output, _ = (run := project.start()).communicate(timeout=60)
    assert run.returncode == 1
    assert "3 failed, 62 passed" in output
    assert "assert 1 == 2" in output
    assert all(output.count(text) == 2 for text in _OUTPUT)  # in the source, and as output
    assert "test_e.py::test_dies" in output
    assert "exit code -9" in output
    assert "the end of a lane" in output
    assert "unclosed file" in output


def test_the_first_failure_ends_the_run_on_request(project: Project) -> None:
    for name in ("a", "b"):
        project.add(name, _WAITING)
    project.add("c", "import time\n\ndef test_fails():\n    time.sleep(1)\n    assert False\n")
    output, _ = (run := project.start("-x")).communicate(timeout=50)
    assert run.returncode == 1, output
    assert "1 failed" in output
    project.check_fixtures_ended()


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["group", "first process"])
def test_an_interrupted_run_ends_the_fixtures_of_its_lanes(
    project: Project, send: Callable[[int, int], None]
) -> None:
    for name in ("a", "b", "c"):
        project.add(name, _WAITING)
    run = project.start()
    wait_until(lambda: sum(event == "test" for event, *_ in project.log()) == 3, "three tests")
    send(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=50)
    assert run.returncode == 2, output
    project.check_fixtures_ended()
