"""The envelope of a Celery message: its headers and the frame of its body.

Celery checks neither. A header of a wrong type ends the consumer, or a thread of its pool without
an acknowledgement. Protocols 1 and 2 are accepted
(https://docs.celeryq.dev/en/stable/internals/protocol.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

from celery.app.task import Context
from celery.utils.time import maybe_iso8601

#: The types of the headers that Celery reads; each may be absent.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "id": (str,),
    "task": (str,),
    "retries": (int, NoneType),
    "timelimit": (list, NoneType),
    "stamped_headers": (list, NoneType),
    "stamps": (dict, NoneType),
    "errbacks": (list, NoneType),
    "callbacks": (list, NoneType),
    "chain": (list, NoneType),
    "chord": (dict, NoneType),
    "group_index": (int, NoneType),
    "replaced_task_nesting": (int, NoneType),
    "ignore_result": (bool, NoneType),
    "headers": (dict, NoneType),
    **dict.fromkeys(
        (
            "root_id",
            "parent_id",
            "group",
            "shadow",
            "taskset",
            "lang",
            "argsrepr",
            "kwargsrepr",
            "origin",
            "eta",
            "expires",
        ),
        (str, NoneType),
    ),
}
#: Celery sets these, or does not read them; a message may have any value.
_OVERWRITTEN: Final = frozenset(
    {
        *("args", "kwargs", "correlation_id", "delivery_info", "hostname", "properties"),
        *("reply_to", "called_directly", "is_eager", "logfile", "loglevel", "utc"),
    }
)
#: The other names of a running task's context. Celery writes headers over its attributes, so that
#: such a header would replace a method.
_RESERVED: Final = frozenset(dir(Context)) - _TYPES.keys() - _OVERWRITTEN


class MessageMalformed(Exception):
    """A message that Celery cannot run; the text names the part and the reason."""


def describe(error: Exception) -> str:
    """Return an error in one line."""
    name = "" if isinstance(error, MessageMalformed) else f"{type(error).__name__}: "
    return " ".join(f"{name}{error}".split())


def task_name(message: Any) -> str:
    """Return the name of a message's task; raise MessageMalformed if it has none."""
    payload = message.headers if "task" in message.headers else message.payload
    name = payload.get("task") if isinstance(payload, dict) else None
    if not isinstance(name, str):
        raise MessageMalformed("the message names no task")
    return name


def check(message: Any) -> None:
    """Check the headers and the frame of the body; raise MessageMalformed.

    Errors of kombu's decoders are raised as they are.
    """
    payload = message.payload
    if "task" in message.headers:
        headers = message.headers
        arguments, keywords, embedded = _frame(payload)
        _check_types(embedded or {}, "the body's ")
    else:
        headers = payload
        arguments, keywords = payload.get("args", []), payload.get("kwargs", {})
    if not isinstance(arguments, list) or not isinstance(keywords, dict):
        raise MessageMalformed("the arguments must be a list and an object")
    _check_types(headers, "")
    if not headers.get("id"):
        raise MessageMalformed("id: must be a string, not empty")
    _check_time_limits(headers.get("timelimit") or [None, None])
    for name in ("eta", "expires"):
        _check_time(name, headers.get(name))


def _frame(payload: Any) -> tuple[Any, Any, Any]:
    """Return the three parts of the body of protocol 2."""
    if not isinstance(payload, list) or len(payload) != 3:
        raise MessageMalformed("the body must be a list: arguments, keyword arguments, callbacks")
    if not isinstance(payload[2], dict | NoneType):
        raise MessageMalformed("the body's callbacks must be an object")
    return payload[0], payload[1], payload[2]


def _check_types(values: Mapping[str, Any], part: str) -> None:
    reserved = sorted(_RESERVED.intersection(values))
    if reserved:
        raise MessageMalformed(f"{part}{reserved[0]}: this name is reserved by Celery")
    for name, types in _TYPES.items():
        if name in values and not isinstance(values[name], types):
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in types)
            raise MessageMalformed(
                f"{part}{name}: must be {expected}, not {type(values[name]).__name__}"
            )


def _check_time_limits(limits: list[Any]) -> None:
    if len(limits) != 2 or not all(isinstance(limit, int | float | None) for limit in limits):
        raise MessageMalformed("timelimit: must be two numbers or nulls")


def _check_time(name: str, text: str | None) -> None:
    """Check a time in ISO 8601 that the system's clock can represent."""
    try:
        if text is not None:
            maybe_iso8601(text).astimezone()
    except (ValueError, OverflowError, TypeError) as error:
        raise MessageMalformed(f"{name}: {error}") from None
