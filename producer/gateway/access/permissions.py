"""Checks of the policies of API keys: requests, tasks, and the page."""

from __future__ import annotations

import re
from typing import Final

from ...contract import Task
from ..http.problems import Problem
from .key_policy import SCOPES, KeyPolicy

#: Methods that change nothing.
_READING: Final = ("GET", "HEAD", "OPTIONS")
#: POST of a token for reading, and of what changes jobs without a submission. The patterns match
#: whole paths: an id can be any of these words.
_TOKEN_PATH: Final = re.compile(r"/v1/batches/[^/]+/token")
_MANAGED_PATH: Final = re.compile(r"(/[^/]+){3,}/(cancel|retry|resend)")


def scope_of(method: str, path: str) -> str:
    """Return the scope that a request needs."""
    if method in _READING or (method == "POST" and _TOKEN_PATH.fullmatch(path)):
        return "read"
    is_managed = method == "DELETE" or (method == "POST" and _MANAGED_PATH.fullmatch(path))
    return "manage" if is_managed else "submit"


def check_request(policy: KeyPolicy, method: str, path: str) -> None:
    """Check the scope of a request; raises Problem."""
    scope = scope_of(method, path)
    if scope not in policy.scopes:
        raise Problem(
            "forbidden",
            f"This API key has the scopes {', '.join(policy.scopes)}, and the request needs "
            f"{scope}: use another key, or change its scopes with `blipline keys limit`",
        )


def check_task(policy: KeyPolicy, task: Task) -> None:
    """Check the task of a job; raises Problem."""
    if not policy.allows_task(task):
        names = ", ".join(policy.tasks or ())
        raise Problem(
            "forbidden",
            f"This API key allows the tasks {names}, not {task.short}: use another key, or change "
            "its tasks with `blipline keys limit`",
        )


def check_page(policy: KeyPolicy) -> None:
    """Check that a key may sign in to the page, which has everything; raises Problem."""
    limits = (policy.tasks, policy.items_per_day, policy.mb_per_day)
    if set(policy.scopes) != set(SCOPES) or any(limit is not None for limit in limits):
        raise Problem(
            "forbidden",
            "This API key has limited scopes, tasks or daily quotas: the page needs one without "
            "them",
        )
