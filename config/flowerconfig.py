"""Flower's settings: `celery -A worker.celery_app flower --conf=config/flowerconfig.py`.

``BLIPLINE_FLOWER_AUTH`` is `user:password` (several with commas), and required wherever others
can reach Flower. Its `/metrics` and `/healthcheck` stay open even so: keep the port private.

Flower ignores a name that it does not know, so a test compares them with its options.
"""

import os
import sys

from producer import contract

address = os.environ.get("BLIPLINE_FLOWER_ADDRESS", "127.0.0.1")
port = int(os.environ.get("BLIPLINE_FLOWER_PORT", "5555"))

if os.environ.get("BLIPLINE_FLOWER_AUTH"):
    basic_auth = os.environ["BLIPLINE_FLOWER_AUTH"].split(",")
elif address not in ("127.0.0.1", "::1", "localhost"):
    # Jobs show image addresses, questions and answers.
    sys.exit(f"Flower: set BLIPLINE_FLOWER_AUTH=user:password to listen on {address or '*'}")

# To look, not to touch: a click must not stop a worker.
read_only = True
# Each task keeps some kilobytes in memory.
max_tasks = 20_000
# Keep the view over a restart, where a place to keep it is given.
if os.environ.get("BLIPLINE_FLOWER_DB"):
    persistent = True
    db = os.environ["BLIPLINE_FLOWER_DB"]
    state_save_interval = 60_000
# Consumers that are gone for good leave the list.
purge_offline_workers = 3600

tasks_columns = "name,uuid,state,kwargs,result,received,started,runtime,worker"


def format_task(task):  # type: ignore[no-untyped-def]
    """Show a task by its short name."""
    known = {name.value: name.short for name in contract.Task}
    task.name = known.get(task.name, task.name)
    return task
