"""Limits that the contract fixes: sizes, numbers and times."""

from __future__ import annotations

from typing import Final

#: Items in one message of a batch. Larger chunks cost less per item to publish and store; smaller
#: chunks spread better over workers and lose less work in a crash.
CHUNK_ITEMS: Final = 32
#: Maximum items of one message: a worker holds a whole chunk in memory.
MAX_CHUNK_ITEMS: Final = 1024
#: Maximum characters of an image reference.
MAX_REFERENCE_CHARS: Final = 8192
#: Maximum characters of a `custom_id`: Redis stores it with the item and with its result.
MAX_CUSTOM_ID_CHARS: Final = 512
#: Maximum characters of a prompt or question. No supported model accepts as many tokens, and a very
#: long text would block the tokenizer for all other rows.
MAX_TEXT_CHARS: Final = 20_000
#: Maximum texts of one match, all of them one row of the engine, and answers of one question, each
#: a row.
MAX_TEXTS: Final = 256
#: Maximum characters of all texts of one match, and of all answers.
MAX_TEXTS_CHARS: Final = 200_000
#: Maximum prompts of one description: each is a row of the engine.
MAX_PROMPTS: Final = 16
#: Maximum synthetic captions of one item of CapFilt: each is a row of the engine.
MAX_CAPTIONS: Final = 16
#: Synthetic captions of an item of CapFilt, as in the paper, and the probability from which its
#: texts are accepted.
CAPTIONS: Final = 1
THRESHOLD: Final = 0.5
#: Maximum turns of a dialogue; models read about ten.
MAX_TURNS: Final = 256
#: Maximum characters of the name of an adapter.
MAX_ADAPTER_CHARS: Final = 64
#: Seconds from storing a result to its expiry.
RESULT_TTL_S: Final = 24 * 3600
#: Maximum seconds that a batch's results can be kept.
MAX_KEEP_S: Final = 366 * 24 * 3600
#: Maximum seconds from now to a deadline; consumers shorten a later one.
MAX_DEADLINE_S: Final = 366 * 24 * 3600.0
#: Seconds that a batch's record outlives its results, to distinguish `expired` from `unknown`.
TOMBSTONE_S: Final = 6 * 24 * 3600
#: Seconds that an uploaded image is kept before a job names it.
UPLOAD_TTL_S: Final = 3600
#: Seconds that an uploaded image is kept after the end of the last job that names it. At 500 images
#: of 50 KB per second, the images of one minute occupy 1.5 GB.
BLOB_TTL_S: Final = 60
#: Seconds of a lease: a job without a heartbeat for this time is redelivered.
LEASE_S: Final = 30.0
#: Seconds after its last sign of life for which a worker counts as alive.
WORKER_ALIVE_S: Final = 30
#: Attempts that run all items of a job together; later attempts run them one by one, to isolate the
#: item that kills its consumer.
WHOLE_ATTEMPTS: Final = 3
#: Consumers that may die at one isolated item before it fails as poisoned.
MAX_DEATHS: Final = 2
#: Maximum attempts at a job.
MAX_ATTEMPTS: Final = 12
#: Maximum bytes of one uploaded image.
MAX_BLOB_BYTES: Final = 64 * 1024 * 1024
