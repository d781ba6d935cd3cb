"""Log lines in JSON, each with the id of its request; secrets are redacted."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from ...connection.url import redact_password

LOGGER: Final = logging.getLogger("blipline.gateway")
ACCESS: Final = logging.getLogger("blipline.gateway.access")

#: Id of the current request.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: No log call contains one of these deliberately; messages of libraries may.
_SECRETS: Final = (
    (re.compile(r"(blip_[0-9a-f]{12}_)[0-9a-f]+"), r"\1***"),
    (re.compile(r"(blipt_[A-Za-z0-9_-]+\.)[0-9a-f]+"), r"\1***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "whsec_***"),
)

#: A URL up to the last @, because a password may contain any character, and then to the quote that
#: ends a string.
_URL: Final = re.compile(r'\w{0,20}://(?:\S*@)?[^\s"]*')


class JsonFormatter(logging.Formatter):
    """Formats a record as a line of JSON; `extra={"fields": {...}}` adds fields to it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact_secrets(json.dumps({name: line[name] for name in line if line[name] != ""}))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOGGER.setLevel(level)


def redact_secrets(text: str) -> str:
    """Redact API keys, webhook secrets and passwords of URLs in a text."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return _URL.sub(lambda match: redact_password(match[0]), text)
