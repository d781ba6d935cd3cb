"""The engine: in-flight batching of requests, in a lane per kind of work.

Entry point: `Engine.step`. All calls come from one thread. `step` raises only if the device itself
is broken; the process must then end. Otherwise every request that was added gets exactly one
Answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count

import torch

from worker.engine.beams import BeamLane
from worker.engine.deadlines import Deadlines
from worker.engine.decoding import DecodingLane
from worker.engine.encoder import Encoder
from worker.engine.feature_cache import FeatureCache
from worker.engine.generating import GeneratingLane
from worker.engine.halving import Failure
from worker.engine.lane import Lane
from worker.engine.matching import MatchingLane
from worker.engine.metrics import EngineMetrics
from worker.engine.model import Generator, GroupGenerator, Matcher, Model, Vision
from worker.engine.request import Answer, Request, RequestId
from worker.engine.row import CANCELLED, EXPIRED, Row, error_answer
from worker.engine.stats import EngineStats
from worker.engine.text_streams import TextStreams


class Engine:
    """An engine that takes requests by `add` and returns answers from `step`."""

    def __init__(
        self,
        model: Generator | None,
        matcher: Matcher | None = None,
        group_generator: GroupGenerator | None = None,
        *,
        max_rows: int = 64,
        feature_bytes: int = 256 * 2**20,
        reserved_rows: int = 4,
        cuda_graphs: bool = True,
        clock: Callable[[], float] = time.monotonic,
        metrics: EngineMetrics | None = None,
    ) -> None:
        self.model, self.matcher, self.clock = model, matcher, clock
        self.stats, self.metrics = EngineStats(), metrics or EngineMetrics()
        self.decoding: DecodingLane | None = None
        self.beams: BeamLane | None = None
        self.matching: MatchingLane | None = None
        self.generating: GeneratingLane | None = None
        encoding: list[Vision] = [loaded for loaded in (model, matcher) if loaded is not None]
        self.models: list[Model] = [*encoding]
        self.encoders = [
            Encoder(loaded, FeatureCache(feature_bytes // len(encoding))) for loaded in encoding
        ]
        if group_generator is not None:
            self.generating = GeneratingLane(group_generator, max_rows)
            self.models.insert(0, group_generator)
        if model is not None:
            encoder = self.encoders[0]
            self.decoding = DecodingLane(model, encoder, max_rows, reserved_rows, cuda_graphs)
            self.beams = BeamLane(model, encoder, max_rows, self.decoding.slots.token_bytes)
        if matcher is not None:
            self.matching = MatchingLane(matcher, self.encoders[-1])
        #: The row of each request without an answer.
        self._rows_by_id: dict[RequestId, Row] = {}
        #: Running and waiting rows that an equal request may join.
        self._rows_by_identity: dict[object, Row] = {}
        self._deadlines = Deadlines()
        self._text_streams = TextStreams(model, clock)
        self._numbers = count()
        if (device := self.models[0].device).type == "cuda":
            self.stats.device_limit_bytes = torch.cuda.get_device_properties(device).total_memory
        self._answers: list[Answer] = []

    @property
    def lanes(self) -> Iterator[Lane]:
        """The lanes that the loaded models serve."""
        lanes: tuple[Lane | None, ...]
        lanes = (self.decoding, self.beams, self.generating, self.matching)
        return (lane for lane in lanes if lane is not None)

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks that the loaded models offer."""
        return frozenset[str]().union(*(model.tasks for model in self.models))

    @property
    def idle(self) -> bool:
        """True if no row waits or runs and no answer awaits delivery."""
        return not (self._answers or any(lane.active or lane.waiting for lane in self.lanes))

    def add(self, request: Request) -> None:
        """Enqueue a request. The next step returns the error of an invalid one."""
        if request.id in self._rows_by_id:
            raise ValueError(f"request id {request.id!r} is already in the engine")
        failure = self._validate(request)
        if failure is None:
            shared = self._rows_by_identity.get(request.identity)
            if shared is None:
                failure = self._add_row(request)
            else:
                self._join(shared, request)
        if failure is not None:
            self._answer(error_answer(request, failure))
            return
        if request.streams:
            self._text_streams.add(request.id, self._rows_by_id[request.id])
        self._deadlines.add(request)
        self._deadlines.prune(self._rows_by_id, len(self._rows_by_id))

    def _validate(self, request: Request) -> Failure | None:
        if request.task not in self.tasks:
            offered = ", ".join(sorted(self.tasks))
            message = f"This worker's models offer {offered}, not {request.task}."
            return Failure("unsupported_task", message)
        serving = next(model for model in self.models if request.task in model.tasks)
        error = serving.adapters.error(request.adapter) or request.options.error()
        return None if error is None else Failure("option_invalid", error)

    def _add_row(self, request: Request) -> Failure | None:
        """Enqueue a new row for a request; return a Failure if the row cannot run."""
        row, lane = Row(next(self._numbers), request, [request], self.clock()), self._lane(request)
        failure = lane.prepare(row)
        if failure is None:
            self._rows_by_id[request.id] = row
            if request.options.deterministic:
                self._rows_by_identity[request.identity] = row
            lane.add(row)
            self.stats.admitted += 1
        return failure

    def _join(self, row: Row, request: Request) -> None:
        """Let an existing row answer this request too."""
        row.waiters.append(request)
        self._rows_by_id[request.id] = row
        self.stats.joined += 1
        if request.interactive:
            self._lane(request).promote(row)

    def _lane(self, request: Request) -> Lane:
        lane: Lane | None = self.decoding
        if self.matcher is not None and request.task in self.matcher.tasks:
            lane = self.matching
        elif self.generating is not None:
            lane = self.generating
        elif request.options.num_beams > 1:
            lane = self.beams
        assert lane is not None  # `_validate` has checked the task
        return lane

    def cancel(self, request_id: RequestId) -> None:
        """End a request early with the error `cancelled`. Unknown ids are ignored."""
        row = self._rows_by_id.get(request_id)
        if row is not None:
            self._abort(next(w for w in row.waiters if w.id == request_id), CANCELLED)

    def _abort(self, request: Request, failure: Failure) -> None:
        """Answer a request with a failure, unless answered; end its row after its last request."""
        row = self._rows_by_id.get(request.id)
        # By identity: a later request may use the same id.
        if row is None or not any(waiter is request for waiter in row.waiters):
            return
        del self._rows_by_id[request.id]
        self._text_streams.discard(request.id)
        row.waiters = [waiter for waiter in row.waiters if waiter is not request]
        self._answer(error_answer(request, failure))
        if not row.waiters:
            row.failure = failure
            self._unshare(row)
            self._lane(request).withdraw(row)

    def has_features(self, hashes: Iterable[str], task: str) -> set[str]:
        """Return the images whose features for a task are cached. Safe from any thread."""
        for encoder in self.encoders:
            if task in encoder.model.tasks:
                return {image_hash for image_hash in hashes if image_hash in encoder.cache}
        return set()

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """Expire deadlines, run one step of every lane, and deliver. Call while not `idle`.

        A step of the decoding lane admits, encodes, prefills and decodes: `DecodingLane.step`.
        """
        started = self.clock()
        for request in self._deadlines.pop(started):
            self._abort(request, EXPIRED)
        ended = 0
        for lane in self.lanes:
            rows = lane.step()
            ended += len(rows)
            for row in rows:
                row.batch_rows = lane.active + len(rows)
                self._end(row)
        return self._deliver(started, ended)

    def partial_texts(self) -> list[tuple[RequestId, str]]:
        """Return the texts that have grown of the requests that stream. Call after `step`."""
        return list(self._text_streams.texts())

    def _end(self, row: Row) -> None:
        """Answer every request that waits for a row."""
        self._unshare(row)
        self.stats.tokens += len(row.tokens)
        for request in row.waiters:
            del self._rows_by_id[request.id]
            self._text_streams.discard(request.id)
            self._answer(row.answer(request))

    def _unshare(self, row: Row) -> None:
        identity = row.request.identity
        if self._rows_by_identity.get(identity) is row:
            del self._rows_by_identity[identity]

    def _answer(self, answer: Answer) -> None:
        self.stats.answered += 1
        self.stats.failed += answer.error_code is not None
        self._answers.append(answer)

    def _deliver(self, started: float, ended: int) -> list[Answer]:
        stats, lanes = self.stats, list(self.lanes)
        stats.steps += 1
        stats.active = sum(lane.active for lane in lanes)
        stats.waiting = sum(lane.waiting for lane in lanes)
        stats.row_steps += stats.active + ended
        stats.encoded_images = sum(encoder.images for encoder in self.encoders)
        stats.cache_hits = sum(encoder.hits for encoder in self.encoders)
        stats.feature_bytes = sum(encoder.cache.bytes for encoder in self.encoders)
        if self.models[0].device.type == "cuda":
            stats.device_bytes = torch.cuda.memory_allocated(self.models[0].device)
        ended_at = self.clock()
        stats.last_step_s = ended_at - started
        stats.busy_s += stats.last_step_s
        self.metrics.step_seconds.observe(stats.last_step_s)
        self.metrics.step_rows.observe(stats.active + ended)
        for lane in lanes:
            for row in lane.admitted:
                self.metrics.wait_seconds.observe(started - row.arrived_at)
                if lane.is_decoding:
                    self.metrics.first_token_seconds.observe(ended_at - row.arrived_at)
            lane.admitted.clear()
        answers, self._answers = self._answers, []
        return answers
