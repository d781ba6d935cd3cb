"""What pydantic found wrong, in sentences that name it and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, ValidationError

#: Things wrong that are named; the others are counted.
MAX_TOLD: Final = 10
#: Things wrong that are looked at: pydantic takes a second to tell of a hundred thousand.
MAX_PROBLEMS: Final = 1000


def format_errors(error: ValidationError, model: type[BaseModel]) -> str:
    """A sentence for each thing wrong with an object of this model."""
    known = ", ".join(model.model_fields)
    if (count := error.error_count()) > MAX_PROBLEMS:
        return f"{count:,} things are wrong; there are {known}"

    def about(problem: Mapping[str, Any]) -> str:
        name = ".".join(map(str, problem["loc"])) or model.__name__.lower()
        more = f"; there are {known}" if problem["type"] == "extra_forbidden" else ""
        return format_error(name, problem) + more

    return join_errors(map(about, error.errors(include_url=False)), count)


def join_errors(sentences: Iterable[str], count: int) -> str:
    """So many sentences in a row; of very many, the first."""
    told = [*islice(sentences, MAX_TOLD)]
    if count > MAX_TOLD:
        told.append(f"and {count - MAX_TOLD:,} more")
    return "; ".join(told)


def format_error(name: str, error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says of what stands under a name."""
    if error["type"] == "extra_forbidden":
        return f"{name:.100}: no such name"
    if error["type"] == "missing":
        return f"{name:.100}: is missing"
    about = str(error["msg"]).removeprefix("Value error, ").lower()
    return f"{name:.100}={error.get('input')!r:.100}: {about}"
