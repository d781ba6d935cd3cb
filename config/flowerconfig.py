"""Flower's settings: `celery -A worker.celery_app flower --conf=config/flowerconfig.py`.

``BLIPLINE_FLOWER_AUTH`` is `user:password` (several separated by commas). Without it, Flower on
loopback prints a random password at its start; on any other interface it does not start. `/metrics`
and `/healthcheck` need no login: keep the port private.

Flower ignores unknown names, so a test compares these with its options.
"""

import os

from config import flower_events, flower_settings
from producer import settings
from producer.observability import logs

logs.configure(settings.ProcessSettings.load(), "flower")
# Tornado sets the level again; its debug level logs the source of every task.
logging = settings.ProcessSettings.load().log_level.replace("debug", "info")

flower_events.install()

address = os.environ.get("BLIPLINE_FLOWER_ADDRESS", "127.0.0.1")
port = flower_settings.port(os.environ.get("BLIPLINE_FLOWER_PORT", "5555"))
basic_auth = flower_settings.logins(os.environ.get("BLIPLINE_FLOWER_AUTH", ""), address, port)

# Users of Flower can stop workers and cancel jobs if this is false.
read_only = flower_settings.flag(
    "BLIPLINE_FLOWER_READ_ONLY", os.environ.get("BLIPLINE_FLOWER_READ_ONLY") or "true"
)
# Each task occupies a few kilobytes of memory and of the database.
max_tasks = 20_000
max_workers = 1_000
# With a database, Flower's tasks survive a restart.
if os.environ.get("BLIPLINE_FLOWER_DB"):
    persistent = True
    db = flower_settings.database(os.environ["BLIPLINE_FLOWER_DB"])
    state_save_interval = 60_000
# Seconds after which offline consumers are removed from the list.
purge_offline_workers = 3600
flower_settings.check_address(address, port)

tasks_columns = "name,uuid,state,kwargs,result,runtime,received,worker"
format_task = flower_settings.format_task
