"""Jobs of the asynchronous client's tests: items, and results as a worker stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

URL: Final = "https://images.example.com/cat.jpg"

#: Stores the results of a chunk as a worker does.
Finish = Callable[[str, Sequence[Mapping[str, Any]]], None]


def numbered(count: int) -> Iterator[dict[str, str]]:
    """Yield items with numbers as custom ids."""
    return ({"image": URL, "custom_id": str(number)} for number in range(count))


def finish_chunks(finish: Finish, batch_id: str, items: int, chunk_items: int) -> None:
    """Finish the chunks of a batch, the last chunk first."""
    for first in reversed(range(0, items, chunk_items)):
        texts = range(first, min(first + chunk_items, items))
        finish(f"{batch_id}:{first // chunk_items}", [{"text": str(n)} for n in texts])


def finish_all(finish: Finish, job_ids: list[str]) -> None:
    """Finish jobs with texts that contain their ids."""
    for job_id in job_ids:
        finish(job_id, [{"text": f"of {job_id}"}])
