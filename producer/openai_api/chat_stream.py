"""Chat completions as a stream: chunks as the worker decodes the text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Response

from ..errors import BliplineError
from ..gateway.batches.events import EventStream
from ..gateway.http.problems import Problem
from ..gateway.jobs.awaited_jobs import AwaitedJob, cancel_late, output_of
from ..gateway.jobs.text_events import parts_of
from ..gateway.state import Gateway
from ..job import Result
from ..results.text_stream import TextPart
from .completion import ChatCompletion, event_of
from .errors import error_body

#: The last event of a stream.
DONE = b"data: [DONE]\n\n"


async def stream_completion(
    gateway: Gateway, submitted: AwaitedJob, completion: ChatCompletion, *, include_usage: bool
) -> Response:
    """Return the stream of a job; raises Problem if the job fails before it has a text.

    So libraries see the errors that a whole completion would have, and repeat what they can.
    """
    parts, max_wait_s = parts_of(gateway, submitted.job), gateway.settings.gateway_max_wait_s
    try:
        async with asyncio.timeout(max_wait_s):
            first = await anext(parts, None)
    except TimeoutError:
        raise await cancel_late(gateway, submitted, max_wait_s) from None
    if first is None:
        # The job has failed, its text is empty, or the gateway shuts down.
        await output_of(gateway, submitted)
    stream = _CompletionStream(gateway, submitted, completion, include_usage)
    return EventStream(stream.events(parts, first))


class _CompletionStream:
    """The chunks of one completion."""

    def __init__(
        self,
        gateway: Gateway,
        submitted: AwaitedJob,
        completion: ChatCompletion,
        include_usage: bool,
    ) -> None:
        self._gateway, self._submitted = gateway, submitted
        self._completion, self._include_usage = completion, include_usage
        self._text = self._sent = ""
        self._is_first = True

    async def events(
        self, parts: AsyncGenerator[TextPart, None], first: TextPart | None
    ) -> AsyncIterator[bytes]:
        """Yield the chunks, and `[DONE]`, or an error."""
        part = first
        async with aclosing(parts):
            while part is not None:
                if part.restarts:
                    # Chunks that were sent cannot be withdrawn.
                    yield _failure("The worker has failed, and its text began again; retry")
                    return
                self._text += part.text
                for chunk in self._advance(self._completion.form.cut(self._text)):
                    yield chunk
                part = await anext(parts, None)
        try:
            result = await output_of(self._gateway, self._submitted)
        except (Problem, BliplineError) as error:
            yield _failure(str(getattr(error, "detail", error)))
            return
        for chunk in self._end(result):
            yield chunk

    def _advance(self, content: str) -> list[bytes]:
        """Return the chunk that completes the content of the first choice, if it adds any."""
        if content == self._sent and not self._is_first:
            return []
        chunk = self._completion.delta(0, content[len(self._sent) :], is_first=self._is_first)
        self._sent, self._is_first = content, False
        return [event_of(chunk)]

    def _end(self, result: Result) -> list[bytes]:
        """Return the rest of the choices, their ends, and the usage."""
        form = self._completion.form
        first, *more = (form.content(sequence.text) for sequence in result.sequences)
        chunks = self._advance(first)
        chunks += [
            event_of(self._completion.delta(index, content, is_first=True))
            for index, content in enumerate(more, start=1)
        ]
        chunks += map(event_of, self._completion.ends(result))
        if self._include_usage:
            chunks.append(event_of(self._completion.usage(result)))
        return [*chunks, DONE]


def _failure(message: str) -> bytes:
    return event_of(error_body(message, 500, "internal"))
