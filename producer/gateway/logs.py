"""Log lines: JSON, one a line, each with the id of its request, and none with a secret."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from ..connection.url import redact_password

LOGGER: Final = logging.getLogger("blipline.gateway")
ACCESS: Final = logging.getLogger("blipline.gateway.access")

#: Of the request that is being answered.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: Nothing logs one of these on purpose; what a library puts in an error is another matter.
_SECRETS: Final = (
    (re.compile(r"(blip_[0-9a-f]{12}_)[0-9a-f]+"), r"\1***"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "whsec_***"),
)

#: Up to the last @, as a password may hold anything, and then to the quote that ends a string.
_URL: Final = re.compile(r'\w{0,20}://(?:\S*@)?[^\s"]*')


class JsonLines(logging.Formatter):
    """A record as a line of JSON; `extra={"about": {...}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps({name: line[name] for name in line if line[name] != ""}))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Let everything that is logged in this process come out there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOGGER.setLevel(level)


def without_secrets(text: str) -> str:
    """A text as it may be read by everybody who reads logs."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return _URL.sub(lambda found: redact_password(found[0]), text)
