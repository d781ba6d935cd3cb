"""Jobs of the page: submission with the image, the text while it grows, and the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from ..aio.handles import AsyncJob
from ..contract import ItemPayload, State, Task
from ..errors import JobError, WaitTimeout
from ..gateway.access.tenants import Tenant
from ..gateway.http.shutdown import wait_unless
from ..gateway.schemas.metadata import RequestMetadata
from ..gateway.state import Gateway
from ..job import Result
from ..ledger.ids import new_id
from . import images
from .messages import as_sentence, page_error
from .options import DEADLINE

#: Maximum seconds that the page waits for an answer.
WAIT_S: Final = 60.0
#: Seconds after a deadline within which the worker reports that it has passed.
GRACE_S: Final = 2.0
#: Maximum images in memory at the same time.
MAX_READING: Final = 8


@dataclass(frozen=True, slots=True)
class PageJob:
    """A job whose answer the page waits for, unless it is cancelled."""

    job: AsyncJob[Any]
    wait_s: float
    cancelled: asyncio.Event

    async def texts(self) -> AsyncGenerator[str, None]:
        """Yield the text so far, whenever it has grown, until the job or the wait ends.

        `result` then returns or raises the outcome.
        """
        text = ""
        async with aclosing(self.job.stream(self.wait_s + GRACE_S)) as parts:
            while True:
                try:
                    part = await wait_unless(self.cancelled, anext(parts, None))
                except (JobError, WaitTimeout):
                    return
                if part is None:
                    return
                text = part.text if part.restarts else text + part.text
                yield text

    async def result(self, wait_s: float | None = None) -> Result | None:
        """Wait for the result; None if the page has cancelled it. Raises gr.Error."""
        wait_s = self.wait_s + GRACE_S if wait_s is None else wait_s
        snapshot = await wait_unless(self.cancelled, self.job.look(wait_s))
        if snapshot is None or self.cancelled.is_set():
            await self.job.cancel()
            return None
        state, result = snapshot
        if result is None:
            await self.job.cancel()
            raise page_error(_timeout_message(state, self.wait_s))
        if result.error is not None:
            raise page_error(as_sentence(result.error.message))
        return result


class PageJobs:
    """The submission of the page's single jobs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reading = asyncio.Semaphore(MAX_READING)

    async def submit(
        self,
        name: str,
        task: Task,
        image: tuple[Any, str],
        item: ItemPayload,
        options: Mapping[str, Any],
        cancelled: asyncio.Event,
    ) -> PageJob:
        """Submit an item about an image, an upload or a URL, for a name of API keys.

        Raises gr.Error and the errors of the client.
        """
        async with self._reading:
            source = await asyncio.to_thread(images.image_source, *image)
            reference = await self._gateway.client.upload(source, account=name)
        job = await self._gateway.client.submit(
            {"image": reference, **item},
            task,
            job_id=Tenant(name).job_id(new_id()),
            submitter=name,
            note=RequestMetadata.now(task).encode(),
            **options,
        )
        deadline_s = options.get(DEADLINE)
        wait_s = WAIT_S if deadline_s is None else min(WAIT_S, deadline_s)
        return PageJob(job, wait_s, cancelled)


def _timeout_message(state: State, wait_s: float) -> str:
    if state is State.QUEUED:
        return (
            f"No worker started the job within {wait_s:g} s, so it was cancelled. "
            "Check that a worker is running, or try again when the queue is shorter."
        )
    return f"The job did not end within {wait_s:g} s, so it was cancelled. Try again later."
