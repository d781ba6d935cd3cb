"""Errors of Redis in the log of a consumer."""

from __future__ import annotations

import subprocess
import sys

from demo.stack import ROOT

#: A consumer's log with two outages, as Celery logs them, and two faults.
PROGRAM = """
import logging, types, redis
from worker import celery_app

celery_app._configure_logs(types.SimpleNamespace(logfile=None, loglevel="WARNING", hostname="h"))
for error in (
    redis.TimeoutError("no 100% answer"),
    redis.exceptions.ReadOnlyError("a replica"),
    redis.ResponseError("wrong kind of value"),
    FileNotFoundError("a file"),
):
    try:
        raise error
    except Exception:
        logging.getLogger("celery.worker").warning("lost %s", "it", exc_info=True)
"""


def test_an_outage_is_one_line_and_a_fault_has_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.partition("celery.worker: ")[2] for line in done.stderr.splitlines()]
    assert list(filter(None, lines)) == [
        "lost it: no 100% answer",
        "lost it: a replica",
        "lost it",
        "lost it",
    ]
    assert done.stderr.count("Traceback") == 2
