"""Captions and answers with plain Celery, without code of Blipline.

    pip install 'celery[redis]'
    export BLIPLINE_REDIS_URL=redis://127.0.0.1:6379/0
    python send_task.py https://example.com/cat.jpg https://example.com/dog.jpg

docs/tasks.md describes the tasks and their items.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from celery import Celery

QUESTION = "what color is the background?"

redis_url = os.environ.get("BLIPLINE_REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery("shop", broker=redis_url, backend=redis_url)


def main(images: list[str]) -> int:
    # For a user who waits: one item in a message, to the queue that is served first.
    job = app.send_task(
        "blipline.vqa",
        kwargs={"items": [{"image": images[0], "question": QUESTION}]},
        queue="interactive",
    )
    # For a pipeline: some tens of items in a message. The results are in their order.
    captions = app.send_task(
        "blipline.caption",
        kwargs={
            "items": [{"image": image, "custom_id": image} for image in images],
            "options": {"max_new_tokens": 15},
        },
        queue="bulk",
    )
    (answer,) = job.get(timeout=60)
    print(QUESTION, text_of(answer))
    for result in captions.get(timeout=60):
        print(result["custom_id"], text_of(result))
    return 0


def text_of(result: dict[str, Any]) -> str:
    """Return the text or the error of a result; an item fails alone."""
    if "error" in result:
        return f"{result['error']['code']}: {result['error']['message']}"
    return str(result["text"])


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python send_task.py URL...")
    sys.exit(main(sys.argv[1:]))
