"""The engine: what is asked of it, in lanes by the kind of work. Start reading at `Engine.step`.

One thread calls everything. A step may raise only when the device itself is broken; the process
must end then. Otherwise every request that was added gets exactly one Answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Protocol

import torch

from worker.engine.beams import GroupedLane
from worker.engine.deadlines import Deadlines
from worker.engine.decoding import DecodingLane
from worker.engine.encoder import Encoder
from worker.engine.features import FeatureCache
from worker.engine.halving import Failure
from worker.engine.matching import MatchingLane
from worker.engine.model import Generator, Matcher, Vision
from worker.engine.request import Answer, Request, RequestId
from worker.engine.row import CANCELLED, EXPIRED, Row, refusal
from worker.engine.stats import EngineStats


class Lane(Protocol):
    """One way of working rows off."""

    encoder: Encoder

    @property
    def active(self) -> int:
        """Rows that are being run."""

    @property
    def waiting(self) -> int:
        """Rows that are not begun."""

    def prepare(self, row: Row) -> Failure | None:
        """What keeps a row from ever being run, or None."""

    def add(self, row: Row) -> None:
        """Queue a row."""

    def promote(self, row: Row) -> None:
        """Somebody waits for this row now."""

    def withdraw(self, row: Row) -> bool:
        """Take out a row that waits; False when it runs already."""

    def step(self) -> list[Row]:
        """Do a little of the work. Returns the rows that ended."""


class Engine:
    """Requests in by `add`, answers out of `step`."""

    def __init__(
        self,
        model: Generator | None,
        matcher: Matcher | None = None,
        *,
        max_rows: int = 64,
        feature_bytes: int = 256 * 2**20,
        reserved_rows: int = 4,
        cuda_graphs: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.matcher, self.clock = model, matcher, clock
        self.figures = EngineStats()
        self.decoding: DecodingLane | None = None
        self.grouped: GroupedLane | None = None
        self.matching: MatchingLane | None = None
        self.encoders: list[Encoder] = []
        models: list[Vision] = [one for one in (model, matcher) if one is not None]
        for one in models:
            self.encoders.append(Encoder(one, FeatureCache(feature_bytes // len(models))))
        if model is not None:
            encoder = self.encoders[0]
            self.decoding = DecodingLane(model, encoder, max_rows, reserved_rows, cuda_graphs)
            self.grouped = GroupedLane(model, self.encoders[0], max_rows)
        if matcher is not None:
            self.matching = MatchingLane(matcher, self.encoders[-1])
        self._live: dict[RequestId, Row] = {}
        #: Rows that answer whoever asks the same while they are there.
        self._shared: dict[object, Row] = {}
        self._deadlines = Deadlines()
        self._numbers = count()
        self._answers: list[Answer] = []

    @property
    def lanes(self) -> Iterator[Lane]:
        """The ways of working rows off that the models allow."""
        lanes: tuple[Lane | None, ...] = (self.decoding, self.grouped, self.matching)
        return (lane for lane in lanes if lane is not None)

    @property
    def tasks(self) -> frozenset[str]:
        """What can be asked."""
        models: list[Vision] = [one for one in (self.model, self.matcher) if one is not None]
        return frozenset[str]().union(*(one.tasks for one in models))

    @property
    def idle(self) -> bool:
        """Nothing waits, runs or stands ready to be delivered."""
        return not (self._answers or any(lane.active or lane.waiting for lane in self.lanes))

    def add(self, request: Request) -> None:
        """Queue a request. What is wrong with it comes back from the next step."""
        if request.id in self._live:
            raise ValueError(f"request id {request.id!r} is already in the engine")
        failure = self._problem(request)
        if failure is not None:
            self._answer(refusal(request, failure))
            return
        same = self._shared.get(request.identity)
        if same is None:
            failure = self._begin(request)
        else:
            self._join(same, request)
        if failure is None:
            self._deadlines.add(request)
            self._deadlines.tidy(self._live, len(self._live))
        else:
            self._answer(refusal(request, failure))

    def _problem(self, request: Request) -> Failure | None:
        if request.task not in self.tasks:
            offered = ", ".join(sorted(self.tasks))
            about = f"This worker's models offer {offered}, not {request.task}."
            return Failure("unsupported_task", about)
        sentence = request.options.problem()
        return None if sentence is None else Failure("option_invalid", sentence)

    def _begin(self, request: Request) -> Failure | None:
        """Make a row of a request; returns what keeps it from being run, or None."""
        row, lane = Row(next(self._numbers), request, [request]), self._lane(request)
        failure = lane.prepare(row)
        if failure is None:
            self._live[request.id] = row
            if request.options.repeatable:
                self._shared[request.identity] = row
            lane.add(row)
            self.figures.admitted += 1
        return failure

    def _join(self, row: Row, request: Request) -> None:
        """Let a row answer this request as well."""
        row.waiters.append(request)
        self._live[request.id] = row
        self.figures.joined += 1
        if request.interactive:
            self._lane(request).promote(row)

    def _lane(self, request: Request) -> Lane:
        lane: Lane | None = self.decoding
        if self.matcher is not None and request.task in self.matcher.tasks:
            lane = self.matching
        elif request.options.num_beams > 1:
            lane = self.grouped
        assert lane is not None  # the task is offered
        return lane

    def cancel(self, request_id: RequestId) -> None:
        """End a request early with the error `cancelled`. Unknown ids are ignored."""
        row = self._live.get(request_id)
        if row is not None:
            self._drop(next(one for one in row.waiters if one.id == request_id), CANCELLED)

    def _drop(self, request: Request, failure: Failure) -> None:
        """Answer a request now, if it has no answer yet; its row ends unless others wait for it."""
        row = self._live.get(request.id)
        # By identity: an id may have been used again since.
        if row is None or not any(one is request for one in row.waiters):
            return
        del self._live[request.id]
        row.waiters = [one for one in row.waiters if one is not request]
        self._answer(refusal(request, failure))
        if not row.waiters:
            row.failure = failure
            self._unshare(row)
            self._lane(request).withdraw(row)

    def has_features(self, hashes: Iterable[str], task: str) -> set[str]:
        """Which of these images need not be sent for a task. Safe from any thread."""
        for encoder in self.encoders:
            if task in encoder.model.tasks:
                return {image_hash for image_hash in hashes if image_hash in encoder.cache}
        return set()

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """Let every lane work a little, and deliver. Call while not `idle`."""
        started = self.clock()
        for request in self._deadlines.pop(started):
            self._drop(request, EXPIRED)
        ended = [row for lane in self.lanes for row in lane.step()]
        for row in ended:
            self._end(row)
        return self._deliver(started, len(ended))

    def _end(self, row: Row) -> None:
        """Answer everyone who waits for a row."""
        self._unshare(row)
        self.figures.tokens += len(row.tokens)
        for request in row.waiters:
            del self._live[request.id]
            self._answer(row.answer(request))

    def _unshare(self, row: Row) -> None:
        identity = row.request.identity
        if self._shared.get(identity) is row:
            del self._shared[identity]

    def _answer(self, answer: Answer) -> None:
        self.figures.answered += 1
        self.figures.failed += answer.error_code is not None
        self._answers.append(answer)

    def _deliver(self, started: float, ended: int) -> list[Answer]:
        figures, lanes = self.figures, list(self.lanes)
        figures.steps += 1
        figures.active = sum(lane.active for lane in lanes)
        figures.waiting = sum(lane.waiting for lane in lanes)
        figures.row_steps += figures.active + ended
        figures.encoded_images = sum(encoder.images for encoder in self.encoders)
        figures.cache_hits = sum(encoder.hits for encoder in self.encoders)
        figures.feature_bytes = sum(encoder.cache.bytes for encoder in self.encoders)
        if self.encoders[0].model.device.type == "cuda":
            figures.device_bytes = torch.cuda.memory_allocated(self.encoders[0].model.device)
        figures.last_step_s = self.clock() - started
        figures.busy_s += figures.last_step_s
        answers, self._answers = self._answers, []
        return answers
