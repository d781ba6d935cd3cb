"""Submission of the jobs of this API, whose errors name the parameters."""

from __future__ import annotations

from typing import Any, Final

from ..gateway.access.tenants import Tenant
from ..gateway.jobs.awaited_jobs import AwaitedJob, submit_fields
from ..gateway.schemas.task_fields import TaskFields
from ..gateway.state import Gateway
from .errors import errors_of

#: Parameters from which the fields of a job come.
_PARAMS: Final = {"image": "messages", "question": "messages", "history": "messages"}


async def submit(
    gateway: Gateway,
    tenant: Tenant,
    model: type[TaskFields],
    fields: dict[str, Any],
    *,
    param: str,
    max_tokens_name: str = "max_tokens",
) -> AwaitedJob:
    """Submit a job of a task's fields; `param` names their source in errors."""
    params = {**dict.fromkeys(_PARAMS, param), "text": param, "max_new_tokens": max_tokens_name}
    params["num_return_sequences"] = "n"
    with errors_of(params, param):
        return await submit_fields(gateway, tenant, model, fields)
