"""Log lines of the processes that run for long: for people, or as JSON; both without secrets.

A log call adds fields to its line by `extra=fields(job_id=…)`. `log_context` adds fields to every
line of a block, in this thread or asyncio task.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from ..settings import ProcessSettings
from .redaction import Redactor, secrets_of

log = logging.getLogger("blipline")

#: Fields of every line of the current thread or asyncio task.
context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default={})  # noqa: B039 - read only

#: Loggers of this project; those of libraries log warnings and errors alone.
_OWN_LOGGERS: Final = ("blipline", "producer", "worker")


class _Formatter(logging.Formatter):
    """The parts of a log line, redacted."""

    def __init__(self, process: str, redact: Redactor) -> None:
        super().__init__()
        self._process = process
        self._redact = redact

    def _head(self, record: logging.LogRecord) -> dict[str, Any]:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(_message(record)),
            "process": self._process,
            "pid": record.process,
        }

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields of the context and of the call, without empty ones."""
        values = {**context.get(), **getattr(record, "fields", {})}
        return {
            name: self._redact(value) if isinstance(value, str) else value
            for name, value in values.items()
            if value is not None and value not in ("", {})
        }

    def _exception(self, record: logging.LogRecord) -> str:
        texts = [self.formatException(record.exc_info)] if record.exc_info else []
        return self._redact("\n".join([*texts, *filter(None, [record.stack_info])]))


class JsonFormatter(_Formatter):
    """Formats a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {**self._fields(record), **self._head(record)}
        if exception := self._exception(record):
            line["exception"] = exception
        first = ("time", "level", "logger", "message")
        ordered = {name: line[name] for name in first} | line
        return json.dumps(ordered, default=str)


class HumanFormatter(_Formatter):
    """Formats a record as `time LEVEL process[pid] logger: message name=value`.

    Control characters are escaped and lines of a traceback are indented, so that no text of a user
    looks like a log line.
    """

    def format(self, record: logging.LogRecord) -> str:
        head = self._head(record)
        start = f"{head['time']} {record.levelname} {self._process}[{record.process}]"
        fields = [f"{name}={_human(value)}" for name, value in self._fields(record).items()]
        line = " ".join([f"{start} {record.name}: {head['message']}", *fields])
        trace = self._exception(record).split("\n")
        return "\n".join([_escape(line), *(f"    {_escape(part)}" for part in trace if part)])


def configure(
    settings: ProcessSettings, process: str, handler: logging.Handler | None = None
) -> None:
    """Write the log of this process to stderr, or by a handler; `process` is its role."""
    hidden = [name for name, field in type(settings).model_fields.items() if not field.repr]
    secrets = [*secrets_of(os.environ), *(getattr(settings, name) for name in hidden)]
    form = JsonFormatter if settings.log_format == "json" else HumanFormatter
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(form(process, Redactor(secrets)))
    level = getattr(logging, settings.log_level.upper())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value, args.exc_traceback
    )


def report_failure(process: str, reason: str) -> None:
    """Tell why a process ends: on stderr as commands do, or as a log line if these are JSON."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler.formatter, JsonFormatter) for handler in handlers):
        log.error("%s", reason)
    else:
        print(f"{process}: {reason}", file=sys.stderr, flush=True)


def fields(**values: Any) -> dict[str, Any]:
    """Return the argument `extra` of a log call that adds fields to its line."""
    return {"fields": values}


@contextmanager
def log_context(**values: Any) -> Iterator[None]:
    """Add fields to every line that the block logs."""
    token = context.set({**context.get(), **values})
    try:
        yield
    finally:
        context.reset(token)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # A library's call with arguments that do not fit: its line is worth more than its form.
        return f"{record.msg} {record.args}"


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is None or issubclass(kind, (KeyboardInterrupt, SystemExit)):
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        log.critical("uncaught exception", exc_info=(kind, error, trace))


def _human(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{count}" for name, count in value.items())
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(' "=') else text


def _escape(text: str) -> str:
    """Escape the characters that cannot be printed: control characters, line separators."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
