"""Parallel lanes of a test run: processes that fork after one collection (`pytest --lanes 6`).

pytest-xdist would start each lane anew, and each would import and collect everything again: 15 s of
processor time. A lane takes one group of tests at a time; its reports travel to the first process,
which alone prints them.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import Any, Final

import pytest

#: Lanes share the memory of the collection.
_FORK: Final = get_context("fork")
#: The message by which a lane asks for its next group; all others are calls of hooks.
_NEXT: Final = "next"
#: Seconds for the fixtures of an interrupted lane to end.
_TEARDOWN_S: Final = 60.0


class _Lane:
    """A lane, as the first process sees it."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        #: Positions of the tests that it was given and has not finished, the current one first.
        self.unfinished: deque[int] = deque()


class Lanes:
    """The lanes of a run, and the groups of tests, as positions in `session.items`, that wait."""

    def __init__(self, session: pytest.Session, groups: Iterable[Sequence[int]]) -> None:
        self._session = session
        self._hook = session.config.hook
        self._waiting = deque(groups)
        self._lanes: dict[Connection, _Lane] = {}
        self._started = 0

    def run(self, count: int) -> None:
        """Run all groups in `count` lanes; raise what ends a session, as pytest's loop does."""
        if terminal := self._session.config.pluginmanager.getplugin("terminalreporter"):
            terminal.showfspath = False  # tests of many modules end in turn
        try:
            for _ in range(min(count, len(self._waiting))):
                self._start()
            while self._lanes:
                for connection in wait(list(self._lanes)):
                    self._receive(self._lanes[connection])  # type: ignore[index]
        finally:
            self._interrupt()

    def _start(self) -> None:
        ours, theirs = _FORK.Pipe()
        self._started += 1
        process = _FORK.Process(
            target=_run_lane,
            args=(self._session, self._started, theirs, [*self._lanes, ours]),
        )
        process.start()
        theirs.close()
        self._lanes[ours] = _Lane(process, ours)

    def _receive(self, lane: _Lane) -> None:
        try:
            name, arguments = lane.connection.recv()
        except (EOFError, OSError):
            self._end(lane)
            return
        if name == _NEXT:
            group = self._waiting.popleft() if self._waiting else ()
            lane.unfinished.extend(group)
            lane.connection.send(group)
            return
        if name == "pytest_runtest_logfinish":
            lane.unfinished.popleft()
        self._replay(name, arguments)

    def _replay(self, name: str, arguments: dict[str, Any]) -> None:
        if "report" in arguments:
            data = arguments["report"]
            config = self._session.config
            report = self._hook.pytest_report_from_serializable(config=config, data=data)
            arguments = {"report": report}
        getattr(self._hook, name)(**arguments)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _end(self, lane: _Lane) -> None:
        """Let another lane go on where one has died; report the test that it died in."""
        del self._lanes[lane.connection]
        lane.connection.close()
        lane.process.join()
        if not lane.unfinished and lane.process.exitcode == 0:
            return
        died_in = "the end of a lane"
        if lane.unfinished:
            died_in = self._session.items[lane.unfinished.popleft()].nodeid
            if lane.unfinished:
                self._waiting.appendleft(list(lane.unfinished))
            if self._waiting:
                self._start()
        report = pytest.TestReport(
            nodeid=died_in,
            location=(died_in, None, died_in),
            keywords={},
            outcome="failed",
            longrepr=f"the process of the lane ended with exit code {lane.process.exitcode}",
            when="call",
        )
        self._hook.pytest_runtest_logreport(report=report)

    def _interrupt(self) -> None:
        for lane in self._lanes.values():
            with suppress(ProcessLookupError):
                os.kill(lane.process.pid or 0, signal.SIGINT)
            lane.connection.close()
        for lane in self._lanes.values():
            lane.process.join(_TEARDOWN_S)


def _run_lane(
    session: pytest.Session, number: int, connection: Connection, others: Sequence[Connection]
) -> None:
    """Run groups of tests in this process until there are no more."""
    for inherited in others:
        inherited.close()  # else the first process would not see a lane's end
    signal.signal(signal.SIGINT, _interrupt_once)
    _leave_first_process(session.config, number)
    session.config.pluginmanager.register(_Reporter(session.config, connection.send))
    try:
        for item, following in pairwise(chain(_tests(session, connection), [None])):
            if item is not None:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        session._setupstate.teardown_exact(None)
    capture: Any = session.config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    # An object that this finds unclosed is a failure of the lane.
    session.config.hook.pytest_unconfigure(config=session.config)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt for the first signal only: later ones would end fixtures halfway.

    Ctrl-C in a terminal reaches all processes, and the first process then interrupts its lanes.
    """
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tests(session: pytest.Session, connection: Connection) -> Iterator[pytest.Item]:
    while True:
        connection.send((_NEXT, {}))
        if not (group := connection.recv()):
            return
        yield from (session.items[position] for position in group)


def _leave_first_process(config: pytest.Config, number: int) -> None:
    """Give this process its own captured output and directory, and no terminal."""
    plugins = config.pluginmanager
    plugins.unregister(name="terminalreporter")
    capture: Any = plugins.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    for stream in (capture._global_capturing.out, capture._global_capturing.err):
        if stream is not None:  # with -s
            # The stream stays, which handlers of logs may have, with another file behind it.
            with TemporaryFile(buffering=0) as file:
                os.dup2(file.fileno(), stream.tmpfile.fileno(), inheritable=False)
    capture.resume_global_capture()
    directories: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    directories._basetemp = Path(directories.getbasetemp(), f"lane-{number}")
    directories._basetemp.mkdir()


class _Reporter:
    """A plugin that sends a lane's reports to the first process."""

    def __init__(
        self, config: pytest.Config, send: Callable[[tuple[str, dict[str, Any]]], None]
    ) -> None:
        self._config = config
        self._send = send

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        """Say that a test starts."""
        self._send(("pytest_runtest_logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send the report of one phase of a test."""
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        self._send(("pytest_runtest_logreport", {"report": data}))

    def pytest_runtest_logfinish(self, nodeid: str, location: object) -> None:
        """Say that a test has ended."""
        self._send(("pytest_runtest_logfinish", {"nodeid": nodeid, "location": location}))
