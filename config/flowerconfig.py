"""Flower's settings: `celery -A worker.celery_app flower --conf=config/flowerconfig.py`.

``BLIPLINE_FLOWER_AUTH`` is `user:password` (several separated by commas). It is required if Flower
listens on an interface other than loopback. `/metrics` and `/healthcheck` need no login: keep the
port private.

Flower ignores unknown names, so a test compares these with its options.
"""

import os
import sys

from producer import contract, logs, settings

logs.configure(settings.ProcessSettings.load(), "flower")
# Tornado sets the level again; its debug level logs the source of every task.
logging = settings.ProcessSettings.load().log_level.replace("debug", "info")

address = os.environ.get("BLIPLINE_FLOWER_ADDRESS", "127.0.0.1")
port = int(os.environ.get("BLIPLINE_FLOWER_PORT", "5555"))

if os.environ.get("BLIPLINE_FLOWER_AUTH"):
    basic_auth = os.environ["BLIPLINE_FLOWER_AUTH"].split(",")
elif address not in ("127.0.0.1", "::1", "localhost"):
    # Flower shows the image addresses, questions and answers of jobs.
    sys.exit(f"Flower: set BLIPLINE_FLOWER_AUTH=user:password to listen on {address or '*'}")

# Users of Flower must not be able to stop a worker.
read_only = True
# Each task occupies a few kilobytes of memory.
max_tasks = 20_000
# With a database, Flower's tasks survive a restart.
if os.environ.get("BLIPLINE_FLOWER_DB"):
    persistent = True
    db = os.environ["BLIPLINE_FLOWER_DB"]
    state_save_interval = 60_000
# Seconds after which offline consumers are removed from the list.
purge_offline_workers = 3600

tasks_columns = "name,uuid,state,kwargs,result,received,started,runtime,worker"


def format_task(task):  # type: ignore[no-untyped-def]
    """Show a task by its short name."""
    known = {name.value: name.short for name in contract.Task}
    task.name = known.get(task.name, task.name)
    return task
