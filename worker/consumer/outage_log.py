"""Log lines of an outage of Redis: Celery logs a traceback at each lost connection."""

from __future__ import annotations

import logging

import redis

from producer.connection.outage import is_transient


class OutageFilter(logging.Filter):
    """A filter that writes the error of an outage into its line, in place of the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if its error is an outage; never drop it."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, redis.RedisError) and is_transient(error):
            record.msg, record.args = f"{record.getMessage()}: {error}", ()
            record.exc_info = None
        return True
