"""The thread that reads the collection and submits its images, in pages of bounded size."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ..errors import ConnectionFailed, InvalidInput, JobUnknown
from ..image_sources.image_bytes import ImageBytes
from ..image_sources.picture import Picture
from ..ledger.ids import new_id
from .client_on_demand import ClientOnDemand
from .flight import Flight, Inquiry, SubmittedPage
from .planner import PicturePlan, Planner, Step
from .storage.item import ItemState, JournalItem
from .storage.journal import Journal
from .texts.answers import AnswerResolver

#: Maximum images of a page, which is one batch.
PAGE_IMAGES: Final = 512
#: Bytes of images after which a page is submitted.
PAGE_BYTES: Final = 32 << 20
#: Seconds after which an incomplete page is submitted: a slow source must not hold images back.
PAGE_S: Final = 0.5
#: Submissions in a row that Redis may lose.
_MAX_LOSSES: Final = 3
#: Seconds to wait for the end of the thread.
_END_S: Final = 10.0
#: Plans that wait for the collecting thread.
_PLANS: Final = 1024

#: Decides whether an image belongs to the run; raises InvalidInput if it cannot be read.
Filter = Callable[[Picture], bool]


class Submitter:
    """A thread that plans each image and submits what needs the queue."""

    def __init__(
        self,
        clients: ClientOnDemand,
        journal: Journal,
        planner: Planner,
        resolver: AnswerResolver,
        reader: ImageBytes,
        flight: Flight,
        pictures: Iterator[Picture | None],
        keep: Filter,
    ) -> None:
        self._clients = clients
        self._journal = journal
        self._planner = planner
        self._resolver = resolver
        self._reader = reader
        self._flight = flight
        #: None: the source has nothing now.
        self._pictures = pictures
        self._keep = keep
        #: Plans for the collecting thread; None: an image that the filters dropped.
        self.plans: queue.Queue[PicturePlan | None] = queue.Queue(_PLANS)
        self._page: list[tuple[Inquiry, bytes | str]] = []
        self._page_bytes = 0
        self._page_since = 0.0
        self._losses = 0
        self._thread = threading.Thread(target=self._run, name="annotate submitter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread, which may wait for Redis itself."""
        if self._thread.ident is not None:
            self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            self._read()
            with self._flight.changed:
                self._flight.scanned = True
            while not self._flight.stopped:
                with self._flight.changed:
                    self._flight.changed.wait_for(
                        lambda: self._flight.again or self._flight.stopped
                    )
                self._repeat()
        except BaseException as error:
            self._flight.error = error

    def _read(self) -> None:
        for position, picture in enumerate(self._pictures):
            if self._flight.stopped:
                return
            if picture is not None:
                self._put(self._plan(picture, position))
            if self._is_due():
                self._submit()
            if self._flight.again:
                self._repeat()
        self._submit()

    def _plan(self, picture: Picture, position: int) -> PicturePlan | None:
        try:
            if not self._keep(picture):
                return None
        except InvalidInput as error:
            item = JournalItem(picture, position, ItemState.FAILED, code=error.code)
            item.message = str(error)
            return PicturePlan(Step.FAIL, item)
        plan = self._planner.plan(picture, position)
        if plan.step is not Step.REPEATED:
            self._journal.store_item(plan.item)
        if plan.step is Step.ANSWER:
            self._join(plan)
        plan.image = b""
        return plan

    def _join(self, plan: PicturePlan) -> None:
        """Let an image wait for its missing answers, and submit those that nobody waits for."""
        with self._journal.lock:
            plan.missing = bool(missing := self._resolver.resolve(plan.item.content).missing)
            for inquiry in self._flight.join(plan.item, missing):
                self._add(inquiry, plan.image)

    def _put(self, plan: PicturePlan | None) -> None:
        while not self._flight.stopped:
            try:
                self.plans.put(plan, timeout=0.2)
                return
            except queue.Full:
                continue

    def _add(self, inquiry: Inquiry, image: bytes | str) -> None:
        if not self._page:
            self._page_since = time.monotonic()
        if not self._page or self._page[-1][1] is not image:
            self._page_bytes += len(image)
        self._page.append((inquiry, image))

    def _is_due(self) -> bool:
        return bool(self._page) and (
            len(self._page) >= PAGE_IMAGES
            or self._page_bytes >= PAGE_BYTES
            or time.monotonic() >= self._page_since + PAGE_S
        )

    def _submit(self) -> None:
        """Submit the page: a batch for each set of options."""
        page, self._page, self._page_bytes = self._page, [], 0
        lanes: dict[str, list[tuple[Inquiry, bytes | str]]] = {}
        for inquiry, image in page:
            lanes.setdefault(inquiry.request.lane, []).append((inquiry, image))
        for lane in lanes.values():
            self._flight.wait_for_room(0)
            if self._flight.stopped:
                return
            self._submit_batch(lane)

    def _submit_batch(self, lane: Sequence[tuple[Inquiry, bytes | str]]) -> None:
        request, inquiries = lane[0][0].request, [inquiry for inquiry, _ in lane]
        client = self._clients.wait(lambda: self._flight.stopped)
        batch_id = new_id()
        self._journal.open_batch(batch_id)
        try:
            batch = client.submit_batch(
                (_item(inquiry, image) for inquiry, image in lane),
                request.task,
                batch_id=batch_id,
                on_submitted=lambda _: self._check_stopped(),
                **request.options,
            )
        except (JobUnknown, ConnectionFailed):
            # Redis restarted within the submission, and has forgotten the batch or a part of it.
            self._losses += 1
            if self._losses > _MAX_LOSSES:
                raise
            self._journal.close_batch(batch_id)
            self._flight.lose(inquiries)
        else:
            self._losses = 0
            self._flight.add(SubmittedPage(batch, inquiries))

    def _repeat(self) -> None:
        """Submit inquiries again, after a new reading of their image."""
        while self._flight.again and not self._flight.stopped:
            inquiry, item = self._flight.again.popleft()
            self._add(inquiry, self._read_again(inquiry, item))
            if self._is_due():
                self._submit()
        self._submit()

    def _read_again(self, inquiry: Inquiry, item: JournalItem) -> bytes | str:
        try:
            return self._reader.read(item.picture.locator)
        except InvalidInput:
            # The worker reports that the image is missing.
            return ""

    def _check_stopped(self) -> None:
        if self._flight.stopped:
            raise InterruptedError


def _item(inquiry: Inquiry, image: bytes | str) -> dict[str, Any]:
    return {**inquiry.request.fields, "image": image, "custom_id": inquiry.custom_id}
