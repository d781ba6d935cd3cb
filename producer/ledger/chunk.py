"""A chunk: the items that one Celery message carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import contract
from ..contract import ItemPayload, Queue, Task
from .item_summary import summarize
from .message import task_message
from .records import JobRecord

#: Characters of a chunk's digest, 64 bits: it tells apart the uploads of one producer, and a batch
#: stores one for each chunk.
DIGEST_CHARS: Final = 16
#: Estimated bytes of an item's result: an embedding; a text, in addition to its tokens; a score.
EMBEDDING_BYTES: Final = 6144
TEXT_BYTES: Final = 64
SCORE_BYTES: Final = 96
#: Estimated texts of a description: its candidates and itself.
DESCRIPTION_TEXTS: Final = 12
#: Estimated tokens of each, unless an option limits them.
DESCRIPTION_TOKENS: Final = 60
#: Tokens of a text unless an option limits them.
DEFAULT_TOKENS: Final = int(contract.Options.model_fields["max_new_tokens"].default)
#: Estimated bytes of a generated token, and of one with its log-probability.
TOKEN_BYTES: Final = 4
SCORED_TOKEN_BYTES: Final = 64
#: Estimated tokens of an answer of a closed list.
ANSWER_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """One message: 1 to N items of a task, with the options of all of them."""

    id: str
    task: Task
    items: list[ItemPayload]
    options: dict[str, Any]
    #: Seconds from the submission to the deadline.
    deadline_s: float | None = None

    @property
    def summary(self) -> str:
        """The text that Flower shows."""
        return summarize(self.items)

    @property
    def digest(self) -> str:
        """The hash of the items, whose batch determines task and options."""
        items = json.dumps(self.items, sort_keys=True)
        return hashlib.sha256(items.encode()).hexdigest()[:DIGEST_CHARS]

    def record(self, queue: Queue, submitter: str) -> JobRecord:
        """Return the job record of this chunk."""
        payload = {"task": self.task.short, "items": self.items, "options": self.options}
        images = dict.fromkeys(str(item.get("image", "")) for item in self.items)
        return JobRecord(
            self.id,
            queue.value,
            submitter,
            len(self.items),
            tuple(contract.blob_hash(image) for image in images if contract.is_blob(image)),
            task_message(self.id, self.task, queue, self.summary, self.deadline_s),
            json.dumps(payload, separators=(",", ":")),
            sum(map(self._result_bytes, self.items)),
        )

    def _result_bytes(self, item: ItemPayload) -> int:
        """Estimate the bytes of an item's result. An item of a batch may hold anything."""
        task = item.get("task") or self.task
        if task in (Task.EMBED, Task.EMBED.short):
            return EMBEDDING_BYTES
        options = {**self.options, **(item.get("options") or {})}
        if task in (Task.DESCRIBE, Task.DESCRIBE.short):
            tokens = int(options.get("max_new_tokens", DESCRIPTION_TOKENS))
            return DESCRIPTION_TEXTS * (SCORE_BYTES + TOKEN_BYTES * tokens)
        texts = item.get("texts")
        tokens = int(options.get("max_new_tokens", DEFAULT_TOKENS))
        if isinstance(texts, list):
            scored = TEXT_BYTES + sum(SCORE_BYTES + len(str(text)) for text in texts)
            if task in (Task.CAPFILT, Task.CAPFILT.short):
                scored += _captions(item) * (SCORE_BYTES + TOKEN_BYTES * tokens)
            return scored
        return _text_bytes(item, options, int(options.get("max_length") or tokens))


def _text_bytes(item: ItemPayload, options: Mapping[str, Any], tokens: int) -> int:
    """Estimate the bytes of a text, of several texts, or of ranked answers."""
    answers = item.get("answers")
    is_scored = bool(options.get("output_scores"))
    if isinstance(answers, list):
        tokens_bytes = SCORED_TOKEN_BYTES * ANSWER_TOKENS * is_scored
        scores = (SCORE_BYTES + tokens_bytes + len(str(answer)) for answer in answers)
        total: int = TEXT_BYTES + sum(scores)
        return total
    token_bytes = SCORED_TOKEN_BYTES if is_scored else TOKEN_BYTES
    count = int(options.get("num_return_sequences", 1))
    return count * (TEXT_BYTES + token_bytes * tokens)


def _captions(item: ItemPayload) -> int:
    """Return the number of synthetic captions of an item, which may hold anything."""
    captions = item.get("captions")
    valid = isinstance(captions, int) and 0 <= captions <= contract.MAX_CAPTIONS
    return captions if valid and captions is not None else contract.CAPTIONS
