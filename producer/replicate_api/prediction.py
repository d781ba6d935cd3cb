"""Bodies of predictions: a job of the gateway in the form of this API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ..contract import State, Task
from ..gateway.jobs.task_routes import ROUTES
from ..gateway.schemas.metadata import RequestMetadata
from ..results.result import JobProgress

#: Owner of the models.
OWNER: Final = "blipline"
#: Tasks by the names of their models: those of the gateway's routes, and of the contract.
MODELS: Final[Mapping[str, Task]] = {**ROUTES, **{task.short: task for task in ROUTES.values()}}
#: Names of the models by their tasks.
_NAMES: Final[Mapping[Task, str]] = {task: name for name, task in ROUTES.items()}
_STATUS: Final[Mapping[State, str]] = {
    State.QUEUED: "starting",
    State.RUNNING: "processing",
    State.DONE: "succeeded",
    State.CANCELLED: "canceled",
}


def prediction_body(
    public_id: str,
    metadata: RequestMetadata,
    progress: JobProgress,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a prediction; `given` is its input if the request contains it."""
    state, result, started_at = progress
    name = _NAMES[metadata.task]
    url = f"/replicate/v1/predictions/{public_id}"
    status = _STATUS.get(state, "failed")
    body = {
        "id": public_id,
        "model": f"{OWNER}/{name}",
        "version": name,
        "status": status,
        "input": given,
        "output": None,
        "logs": "",
        "error": None,
        "metrics": {},
        "created_at": _iso(metadata.created_at),
        "started_at": _iso(started_at),
        "completed_at": None if result is None else _iso(result.ended_at),
        "urls": {"get": url, "cancel": f"{url}/cancel"},
    }
    if result is not None and result.error is not None:
        body["error"] = f"{result.error.code.value}: {result.error.message}"
    elif result is not None:
        output = result.output()
        body["output"] = output["text"] or "" if output.keys() == {"text"} else output
    elif status == "failed":
        body["error"] = "expired: the result of the job is no longer stored"
    return body


def _iso(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat()


def is_terminal(state: State) -> bool:
    """Return whether a prediction does not change any more."""
    return state not in (State.QUEUED, State.RUNNING)
