"""The contract between producers and workers: tasks, queues, states, error codes, items, options.

A job is a plain Celery message, so any Celery program can submit one::

    app.send_task(
        "blipline.vqa",
        kwargs={"items": [{"image": "https://…/cat.jpg", "question": "how many cats?"}]},
        queue="interactive",
    )

The message carries a *chunk* of items. Its result is a list with one entry for each item, in
order: the fields of the task or ``{"error": {"code": …, "message": …}}``, and ``custom_id`` if the
item has one. An invalid item does not affect the other items. A message without items belongs to a
job record in Redis, which contains the payload.

============  ==============================  ==================================================
task          fields of an item               fields of its result
============  ==============================  ==================================================
``caption``   image, prompt (optional)        ``text``, which begins with the prompt;
                                              ``sequences`` if an option asks for them
``vqa``       image, question, answers        as caption; with ``answers``, the best of
              (optional)                      them, and ``sequences`` ranks all
``chat``      image, question, history        as caption
``match``     image, texts                    ``matches``: probability and cosine of each text;
                                              ``text``: the most probable
``embed``     image or text                   ``embedding``: a unit vector; ``revision``: a hash
                                              of the model and its settings
``describe``  image, prompts and detail       ``text``, ``characters``, ``words``,
              (both optional)                 ``candidates``, ``rounds``, ``seconds``,
                                              ``ranked_by``
``capfilt``   image, texts, captions,         ``accepted``, ``rejected``: source, scores
              thresholds (optional)           of each; ``text``: the best accepted
============  ==============================  ==================================================

An item of a task that generates text may also name an ``adapter`` of the worker's model.
"""

from __future__ import annotations

from ..enums import Detail as Detail
from ..enums import ErrorCode as ErrorCode
from ..enums import Queue as Queue
from ..enums import State as State
from ..enums import Task as Task
from .items import BLOB_SCHEME as BLOB_SCHEME
from .items import DEAD_CODES as DEAD_CODES
from .items import LASTING_CODES as LASTING_CODES
from .items import RESULT_KEY_PREFIX as RESULT_KEY_PREFIX
from .items import Item as Item
from .items import ItemError as ItemError
from .items import Turn as Turn
from .items import blob_hash as blob_hash
from .items import is_adapter_name as is_adapter_name
from .items import is_blob as is_blob
from .items import whole_number as whole_number
from .limits import BLOB_TTL_S as BLOB_TTL_S
from .limits import CAPTIONS as CAPTIONS
from .limits import CHUNK_ITEMS as CHUNK_ITEMS
from .limits import LEASE_S as LEASE_S
from .limits import MAX_ADAPTER_CHARS as MAX_ADAPTER_CHARS
from .limits import MAX_ATTEMPTS as MAX_ATTEMPTS
from .limits import MAX_BLOB_BYTES as MAX_BLOB_BYTES
from .limits import MAX_CAPTIONS as MAX_CAPTIONS
from .limits import MAX_CHUNK_ITEMS as MAX_CHUNK_ITEMS
from .limits import MAX_CUSTOM_ID_CHARS as MAX_CUSTOM_ID_CHARS
from .limits import MAX_DEADLINE_S as MAX_DEADLINE_S
from .limits import MAX_DEATHS as MAX_DEATHS
from .limits import MAX_KEEP_S as MAX_KEEP_S
from .limits import MAX_PROMPTS as MAX_PROMPTS
from .limits import MAX_REFERENCE_CHARS as MAX_REFERENCE_CHARS
from .limits import MAX_TEXT_CHARS as MAX_TEXT_CHARS
from .limits import MAX_TEXTS as MAX_TEXTS
from .limits import MAX_TEXTS_CHARS as MAX_TEXTS_CHARS
from .limits import MAX_TURNS as MAX_TURNS
from .limits import RESULT_TTL_S as RESULT_TTL_S
from .limits import THRESHOLD as THRESHOLD
from .limits import TOMBSTONE_S as TOMBSTONE_S
from .limits import UPLOAD_TTL_S as UPLOAD_TTL_S
from .limits import WHOLE_ATTEMPTS as WHOLE_ATTEMPTS
from .limits import WORKER_ALIVE_S as WORKER_ALIVE_S
from .options import ItemOptions as ItemOptions
from .options import Options as Options
from .payloads import CandidatePayload as CandidatePayload
from .payloads import ChunkPayload as ChunkPayload
from .payloads import ErrorPayload as ErrorPayload
from .payloads import ItemPayload as ItemPayload
from .payloads import ItemResult as ItemResult
from .payloads import MatchPayload as MatchPayload
from .payloads import Ranking as Ranking
from .payloads import ScoredTextPayload as ScoredTextPayload
from .payloads import SequencePayload as SequencePayload
from .payloads import TextSource as TextSource
from .payloads import TokenPayload as TokenPayload
from .payloads import TurnPayload as TurnPayload
from .payloads import failure as failure
