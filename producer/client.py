"""The client: submit jobs and batches, and find them again."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import ValidationError

from . import contract
from .batch import Batch
from .connection.connect import connect, redis_errors
from .contract import (
    CHUNK_ITEMS,
    MAX_CHUNK_ITEMS,
    MAX_KEEP_S,
    MAX_TEXTS,
    MAX_TURNS,
    ErrorCode,
    Options,
    Queue,
    Task,
)
from .dead_letters import DeadLetters
from .errors import InvalidInput
from .job import Job, Match
from .ledger import blobs
from .ledger.blobs import ImageSource
from .ledger.ids import new_id
from .ledger.keys import Keys
from .ledger.ledger import Ledger
from .ledger.publisher import Chunk, Publisher, WhenFull
from .ledger.records import NO_METADATA, Depth, JobMetadata
from .ledger.submission import BatchOptions, ItemSource, Submission, prepare
from .settings import ClientSettings
from .validation import format_errors

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Client:
    """Submits to one Redis. Thread-safe, and safe after a fork.

    Give it back with `close()` or a `with` block. Settings that are not passed come from the
    environment (``BLIPLINE_REDIS_URL``, …). Every method raises ConnectionFailed when Redis is away
    and InvalidInput when the call is wrong. A queue that is full raises QueueFull for single jobs
    and is waited for by batches; `when_full`, "wait" or "raise", says otherwise.
    """

    def __init__(
        self, redis_url: str | None = None, *, settings: ClientSettings | None = None
    ) -> None:
        self._settings = settings or ClientSettings.load(redis_url=redis_url)
        self._redis = connect(self._settings.redis_url)
        self._ledger = Ledger(
            self._redis, Keys(self._settings.key_prefix), blob_ttl_s=self._settings.blob_ttl_s
        )
        self._publisher = Publisher(self._redis, self._ledger, self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; what was submitted goes on."""
        self._redis.close()

    def caption(
        self,
        image: ImageSource,
        prompt: str | None = None,
        *,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Describe an image; with a `prompt`, the caption begins with it.

        `image` is a path, a URL, the bytes of an image file, or a PIL image. `options` are those
        of `contract.Options`. After `deadline_s` seconds the answer is no longer wanted.
        """
        if not isinstance(prompt, str | None):
            raise InvalidInput(f"the prompt must be a string, not {type(prompt).__name__}")
        return self._submit(
            Task.CAPTION, {"image": image, "prompt": prompt}, deadline_s, when_full, options
        )

    def ask(
        self,
        image: ImageSource,
        question: str,
        *,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Ask a question about an image; see `caption` for the rest."""
        _check_text("question", question)
        return self._submit(
            Task.VQA, {"image": image, "question": question}, deadline_s, when_full, options
        )

    def chat(
        self,
        image: ImageSource,
        question: str,
        history: Iterable[tuple[str, str]] = (),
        *,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[str]:
        """Ask on in a dialogue; `history` holds questions and their answers, oldest first.

        What is too long for the model is cut from the oldest turn on. See `caption` for the rest.
        """
        _check_text("question", question)
        turns = [_turn(turn) for turn in _listed("history", history)]
        item = {"image": image, "question": question, "history": turns[-MAX_TURNS:]}
        return self._submit(Task.CHAT, item, deadline_s, when_full, options)

    def match(
        self,
        image: ImageSource,
        texts: str | Iterable[str],
        *,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
    ) -> Job[list[Match]]:
        """Compare an image with one text or with many, MAX_TEXTS at most."""
        given = [texts] if isinstance(texts, str) else _listed("texts", texts)
        if not 0 < len(given) <= MAX_TEXTS:
            raise InvalidInput(f"texts: 1 to {MAX_TEXTS} are compared at once, not {len(given):,}")
        for text in given:
            _check_text("text", text)
        return self._submit(Task.MATCH, {"image": image, "texts": given}, deadline_s, when_full, {})

    def embed(
        self,
        image: ImageSource | None = None,
        *,
        text: str | None = None,
        deadline_s: float | None = None,
        when_full: WhenFull = "raise",
    ) -> Job[list[float]]:
        """The unit vector of an image or of a text; close vectors mean like contents."""
        if (image is None) == (text is None):
            raise InvalidInput("an embedding is of an image or of a text: give one of them")
        if text is not None:
            _check_text("text", text)
        return self._submit(Task.EMBED, {"image": image, "text": text}, deadline_s, when_full, {})

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
        when_full: WhenFull = "raise",
        **options: Any,
    ) -> Job[Any]:
        """Submit one item of any task, as `docs/tasks.md` has it; see `caption` for the rest.

        With a `job_id` of the caller's own the call can be repeated: it is submitted once, and
        something else under the same id raises IdTaken. `submitter` is whose turn it takes, in
        place of the settings' one. `note` is kept with it for a week, and a gateway tells the URL
        `webhook` of its end.
        """
        if job_id is not None:
            _check_id("job_id", job_id)
        wanted, name = prepare(item), _task(task)
        if (error := wanted.get("error")) is not None:
            raise InvalidInput(error["message"], ErrorCode(error["code"]))
        checked = _options(options, deadline_s)
        digest = "" if job_id is None else _digest(name, wanted, checked)
        return self._enter(
            Chunk(job_id or new_id(), name, [wanted], checked),
            _when_full(when_full),
            submitter or "",
            JobMetadata(note, digest, webhook),
        )

    def upload(self, image: ImageSource, *, when_full: WhenFull = "raise") -> str:
        """Store a local image; returns its reference, ``blob:<sha256>``, to submit within an hour.

        A reference comes back as it is.
        """
        data = blobs.read(image)
        if isinstance(data, str):
            return data
        with redis_errors(self._settings.redis_url):
            (reference,) = self._publisher.upload([data], Queue.INTERACTIVE, _when_full(when_full))
        return reference

    def submit_batch(
        self,
        items: Iterable[ItemSource],
        task: Task | str = Task.CAPTION,
        *,
        batch_id: str | None = None,
        chunk_items: int = CHUNK_ITEMS,
        deadline_s: float | None = None,
        keep_s: int = contract.RESULT_TTL_S,
        submitter: str | None = None,
        note: str = "",
        webhook: str = "",
        when_full: WhenFull = "wait",
        on_submitted: Callable[[int], None] = lambda total: None,
        **options: Any,
    ) -> Batch:
        """Submit any number of items, streaming: `items` is never held in memory as a whole.

        An item that cannot be submitted (no such file, say) keeps its place and ends with an error
        of its own. `on_submitted` is called with the number of items submitted so far, also while
        there is no room for more. Results are kept for `keep_s` seconds.

        With a `batch_id` of the caller's own the call can be repeated if it did not return, by any
        process: the same items in the same order go on with the batch where it broke off, and
        nothing is submitted twice. If `items` raises, the batch is what was submitted before.
        `submitter`, `note` and `webhook` are as in `submit`.
        """
        if batch_id is not None:
            _check_id("batch_id", batch_id)
        _check_count("chunk_items", chunk_items, MAX_CHUNK_ITEMS)
        _check_count("keep_s", keep_s, MAX_KEEP_S)
        checked = _options(options, deadline_s)
        terms = BatchOptions(
            batch_id or new_id(),
            _task(task),
            checked,
            chunk_items,
            keep_s,
            _when_full(when_full),
            submitter or "",
            JobMetadata(note, webhook=webhook),
        )
        url = self._settings.redis_url
        Submission(terms, self._redis, self._ledger, self._publisher, url).run(items, on_submitted)
        return self.batch(terms.batch_id)

    def job(self, job_id: str) -> Job[Any]:
        """A handle on a job that any process submitted; `status()` says whether there is one."""
        return Job(job_id, self._ledger, self._settings.redis_url)

    def batch(self, batch_id: str) -> Batch:
        """A handle on a batch that any process submitted."""
        _check_id("batch_id", batch_id)
        return Batch(batch_id, self._redis, self._ledger, self._settings.redis_url)

    def depth(self) -> Depth:
        """How much is open now."""
        with redis_errors(self._settings.redis_url):
            return self._ledger.depth()

    @property
    def dead(self) -> DeadLetters:
        """Jobs with items that were given up on although nothing is wrong with them."""
        return DeadLetters(self._redis, self._ledger, self._settings.redis_url)

    def _submit(
        self,
        task: Task,
        item: dict[str, Any],
        deadline_s: float | None,
        when_full: WhenFull,
        options: dict[str, Any],
    ) -> Job[Any]:
        checked, when_full = _options(options, deadline_s), _when_full(when_full)
        wanted = {name: value for name, value in item.items() if value is not None}
        if "image" in wanted:
            wanted["image"] = blobs.read(wanted["image"])
        return self._enter(Chunk(new_id(), task, [wanted], checked), when_full)

    def _enter(
        self,
        chunk: Chunk,
        when_full: WhenFull,
        submitter: str = "",
        note: JobMetadata = NO_METADATA,
    ) -> Job[Any]:
        """Publish a chunk of one item, its image still bytes where it is local."""
        (item,) = chunk.items
        with redis_errors(self._settings.redis_url):
            if isinstance(item.get("image"), bytes):
                images = [item["image"]]
                (item["image"],) = self._publisher.upload(images, Queue.INTERACTIVE, when_full)
            self._publisher.publish(chunk, when_full, submitter, note)
        return self.job(chunk.id)


def _check_id(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(f"{name}={value!r:.200}: 1 to 128 letters, digits, '-', '_' or '.'")


def _digest(task: Task, item: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Tells what is asked from everything else; the deadline of a second try is another."""
    asked = {
        name: value if not isinstance(value, bytes) else hashlib.sha256(value).hexdigest()
        for name, value in {**item, **options, "task": item.get("task") or task.short}.items()
        if name != "deadline"
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _check_count(name: str, value: Any, most: int) -> None:
    if not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidInput(f"{name}={value!r}: choose 1 to {most:,}")


def _when_full(when_full: Any) -> WhenFull:
    if when_full not in ("wait", "raise"):
        raise InvalidInput(f"when_full={when_full!r}: choose 'wait' or 'raise'")
    return "wait" if when_full == "wait" else "raise"


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"the {name} is empty, or not a string: say something about the image")


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidInput(f"{name}: a list is needed, not {type(values).__name__}")
    return list(values)


def _turn(turn: Any) -> dict[str, str]:
    """A turn of a dialogue as the contract has it, from a pair or from that same form."""
    question = answer = None
    if isinstance(turn, Mapping):
        question, answer = turn.get("question"), turn.get("answer")
    elif isinstance(turn, Sequence) and not isinstance(turn, str) and len(turn) == 2:
        question, answer = turn
    if not (isinstance(question, str) and isinstance(answer, str)):
        raise InvalidInput(f"history: pairs of question and answer are needed, not {turn!r:.100}")
    return {"question": question, "answer": answer}


def _task(task: Task | str) -> Task:
    try:
        return Task.parse(task)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def _options(given: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
    """Check options, and leave out those at their defaults: every message carries them."""
    try:
        options = Options.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(format_errors(error, Options)) from None
    checked = options.model_dump(exclude_defaults=True)
    if deadline_s is not None:
        if deadline_s <= 0:
            raise InvalidInput(f"deadline_s={deadline_s:g}: must be above 0")
        checked["deadline"] = time.time() + deadline_s
    return checked
