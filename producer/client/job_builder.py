"""The job builder: it converts the arguments of a call to the job to be enqueued."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from ..contract import (
    CAPTIONS,
    MAX_TURNS,
    THRESHOLD,
    Detail,
    ErrorCode,
    ItemPayload,
    Options,
    Queue,
    Task,
)
from ..errors import InvalidInput
from ..ledger import blobs
from ..ledger.batch_items import ItemSource, prepare
from ..ledger.blobs import ImageSource
from ..ledger.chunk import Chunk
from ..ledger.ids import new_id
from ..ledger.message import sent_event
from ..ledger.records import NO_METADATA, JobMetadata, NewJob
from ..observability import tracing
from ..validation import (
    check_adapter,
    check_answers,
    check_id,
    check_options,
    check_prompts,
    check_text,
    check_texts,
    detail_of,
    filter_fields,
    list_of,
    seconds_to_deadline,
    task_of,
    turn_of,
)

#: Submitter of single jobs that do not name one: they share one submitter queue.
ANYONE: Final = "anyone"


class JobBuilder:
    """A builder of interactive jobs of one item. It sends nothing, and reads only local images.

    The methods have the arguments of the client's methods of the same names, except `when_full`,
    and raise InvalidInput.
    """

    def __init__(self, submitter: str) -> None:
        self._submitter = submitter or ANYONE

    def caption(
        self,
        image: ImageSource,
        prompt: str | None = None,
        *,
        adapter: str | None = None,
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a caption job."""
        if not isinstance(prompt, str | None):
            raise InvalidInput(f"the prompt must be a string, not {type(prompt).__name__}")
        item = {"image": image, "prompt": prompt, "adapter": check_adapter(adapter)}
        return self._build(Task.CAPTION, item, deadline_s, options)

    def ask(
        self,
        image: ImageSource,
        question: str,
        *,
        answers: Iterable[str] | None = None,
        adapter: str | None = None,
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a VQA job."""
        check_text("question", question)
        item: dict[str, Any] = {"image": image, "question": question}
        item["adapter"] = check_adapter(adapter)
        if answers is not None:
            item["answers"] = check_answers(answers)
        return self._build(Task.VQA, item, deadline_s, options)

    def chat(
        self,
        image: ImageSource,
        question: str,
        history: Iterable[tuple[str, str]] = (),
        *,
        adapter: str | None = None,
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a dialogue job of the latest MAX_TURNS turns."""
        check_text("question", question)
        turns = [turn_of(turn) for turn in list_of("history", history)]
        item: dict[str, Any] = {"image": image, "question": question, "history": turns[-MAX_TURNS:]}
        item["adapter"] = check_adapter(adapter)
        return self._build(Task.CHAT, item, deadline_s, options)

    def match(
        self, image: ImageSource, texts: str | Iterable[str], *, deadline_s: float | None = None
    ) -> NewJob:
        """Build a match job."""
        item = {"image": image, "texts": check_texts(texts)}
        return self._build(Task.MATCH, item, deadline_s, {})

    def embed(
        self,
        image: ImageSource | None = None,
        *,
        text: str | None = None,
        deadline_s: float | None = None,
    ) -> NewJob:
        """Build an embedding job."""
        if (image is None) == (text is None):
            raise InvalidInput("an embedding needs an image or a text: pass one of them")
        if text is not None:
            check_text("text", text)
        return self._build(Task.EMBED, {"image": image, "text": text}, deadline_s, {})

    def describe(
        self,
        image: ImageSource,
        *,
        prompts: Iterable[str] | None = None,
        detail: Detail | str = Detail.MEDIUM,
        adapter: str | None = None,
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a description job."""
        item: dict[str, Any] = {"image": image, "detail": detail_of(detail).value}
        item["adapter"] = check_adapter(adapter)
        if prompts is not None:
            item["prompts"] = check_prompts(list_of("prompts", prompts))
        return self._build(Task.DESCRIBE, item, deadline_s, options)

    def capfilt(
        self,
        image: ImageSource,
        texts: str | Iterable[str],
        *,
        captions: int = CAPTIONS,
        threshold: float = THRESHOLD,
        synthetic_threshold: float | None = None,
        adapter: str | None = None,
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a CapFilt job."""
        item: dict[str, Any] = {"image": image, "texts": check_texts(texts)}
        item |= filter_fields(captions, threshold, synthetic_threshold)
        item["adapter"] = check_adapter(adapter)
        return self._build(Task.CAPFILT, item, deadline_s, options)

    def submit(
        self,
        item: ItemSource,
        task: Task | str = Task.CAPTION,
        *,
        job_id: str | None = None,
        submitter: str | None = None,
        note: str = "",
        webhook: str = "",
        deadline_s: float | None = None,
        **options: Any,
    ) -> NewJob:
        """Build a job of any task."""
        if job_id is not None:
            check_id("job_id", job_id)
        payload, parsed = prepare(item), task_of(task)
        if (error := payload.get("error")) is not None:
            raise InvalidInput(error["message"], ErrorCode(error["code"]))
        checked = check_options(options, deadline_s)
        digest = "" if job_id is None else _digest(parsed, payload, checked)
        metadata = JobMetadata(note, digest, webhook)
        return self._job(job_id or new_id(), parsed, payload, checked, submitter or "", metadata)

    def chunk(self, task: Task, items: Iterable[ItemSource]) -> NewJob:
        """Build a job of several items; an item that cannot be read ends with an error."""
        payloads = [prepare(item) for item in items]
        images = tuple(image for item in payloads if isinstance(image := item.get("image"), bytes))
        for payload in payloads:
            if isinstance(image := payload.get("image"), bytes):
                payload["image"] = blobs.reference_of(image)
        chunk = Chunk(new_id(), task, cast(list[ItemPayload], payloads), {})
        record = chunk.record(Queue.INTERACTIVE, self._submitter)
        event = sent_event(chunk.id, task, Queue.INTERACTIVE, chunk.summary)
        return NewJob(record, NO_METADATA, event, images)

    def _build(
        self, task: Task, item: dict[str, Any], deadline_s: float | None, options: dict[str, Any]
    ) -> NewJob:
        checked = check_options(options, deadline_s)
        payload = {name: value for name, value in item.items() if value is not None}
        if "image" in payload:
            payload["image"] = blobs.read(payload["image"])
        return self._job(new_id(), task, payload, checked)

    def _job(
        self,
        job_id: str,
        task: Task,
        payload: dict[str, Any],
        options: dict[str, Any],
        submitter: str = "",
        metadata: JobMetadata = NO_METADATA,
    ) -> NewJob:
        """Return the job of an item; a local image is still bytes."""
        images: tuple[bytes, ...] = ()
        if isinstance(image := payload.get("image"), bytes):
            images = (image,)
            payload["image"] = blobs.reference_of(image)
        deadline_s = seconds_to_deadline(options)
        options = repeatable(options)
        chunk = Chunk(job_id, task, [cast(ItemPayload, payload)], options, deadline_s)
        span = tracing.start_span(
            "submit",
            kind="PRODUCER",
            attributes={"blipline.job_id": job_id, "blipline.task": task.short},
        )
        with tracing.current(span):
            record = chunk.record(Queue.INTERACTIVE, submitter or self._submitter)
        # With this event Flower shows a job that no worker has received yet.
        event = sent_event(job_id, task, Queue.INTERACTIVE, chunk.summary)
        return NewJob(record, metadata, event, images, span)


def repeatable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with which a further worker repeats a text that is read while it grows."""
    if not options.get("stream") or "seed" in options:
        return dict(options)
    is_sampled = Options.model_validate(options).sampling_temperature > 0
    return {**options, "seed": secrets.randbits(63)} if is_sampled else dict(options)


def _digest(task: Task, item: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return a hash of the request without its deadline, which differs in each repetition."""
    request = {
        name: value if not isinstance(value, bytes) else hashlib.sha256(value).hexdigest()
        for name, value in {**item, **options, "task": item.get("task") or task.short}.items()
        if name != "deadline"
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
