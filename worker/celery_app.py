"""The consumer: `celery -A worker.celery_app worker -P threads -Q interactive,bulk`.

This module is an entry point, so it reads the environment when it is imported. An operator starts
it so, the supervisor by `python -m worker.consumer`. A consumer uses the engine of this machine.
Without a supervisor, it starts an engine if none is running.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from logging.handlers import WatchedFileHandler
from typing import Any, Final

from celery import Celery, signals
from celery.concurrency import get_implementation
from celery.concurrency.thread import TaskPool
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.utils.nodenames import node_format

from config.celeryconfig import celery_settings
from config.settings import WorkerSettings
from producer.connection.connect import connect
from producer.contract import Queue
from producer.errors import InvalidInput
from producer.ledger.keys import Keys
from producer.observability import logs, tracing
from worker.consumer import remote_control, transport
from worker.consumer.chunks import ChunkRunner
from worker.consumer.consumer import Consumer
from worker.consumer.outage_log import OutageFilter
from worker.consumer.tasks import register
from worker.metrics.shared_metrics import join_shared_metrics
from worker.processes import lifeline, streams

#: Exit code after which the supervisor does not start the consumer again.
EXIT_PERMANENT: Final = 2

log = logging.getLogger(__name__)


def _load_settings() -> WorkerSettings:
    try:
        return WorkerSettings.load()
    except InvalidInput as error:
        sys.exit(f"worker: {error}")


# The warning concerns code in pickled messages; consumers accept only JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)

settings = _load_settings()
app = Celery("blipline", events="worker.consumer.events:ThreadSafeEvents")
app.conf.update(celery_settings(settings))
transport.install(connect(settings.redis_url), Keys(settings.key_prefix))
# Without this, a consumer started without -Q also consumes the queues that it publishes to.
app.amqp.queues.select([queue.value for queue in Queue])
register(app, lambda: _runner)
remote_control.install()

_consumer: Consumer
_runner: ChunkRunner


@signals.worker_init.connect
def _start(sender: Any, **_: Any) -> None:
    global _consumer, _runner
    streams.protect()
    _configure_logs(sender)
    try:
        tracing.configure("worker")
    except InvalidInput as error:
        logs.report_failure("worker", str(error))
        sys.exit(EXIT_PERMANENT)
    join_shared_metrics()
    _check_pool(sender.pool_cls)
    lifeline.on_supervisor_death(_end_as_orphan)
    _consumer = Consumer(settings, supervised=lifeline.is_supervised())
    try:
        _runner = _consumer.start()
    except InvalidInput as error:
        logs.report_failure("worker", str(error))
        sys.exit(EXIT_PERMANENT)
    except TimeoutError as error:
        logs.report_failure("worker", f"{error}; see the engine's message above")
        sys.exit(1)


@signals.setup_logging.connect
def _keep_logs(**_: Any) -> None:
    """Log what libraries print; a receiver of this signal replaces Celery's own logging."""
    app.log.redirect_stdouts(logging.WARNING)


def _configure_logs(worker: Any) -> None:
    """Log in the form of the settings, to the file of `-f` if given; `-l` is Celery's level."""
    handler = None
    if worker.logfile:
        handler = WatchedFileHandler(node_format(worker.logfile, worker.hostname))
    logs.configure(settings, lifeline.log_name("consumer"), handler)
    for root_handler in logging.getLogger().handlers:
        root_handler.addFilter(OutageFilter())
    for name in ("celery", "kombu"):
        logging.getLogger(name).setLevel(worker.loglevel)


def _check_pool(pool: Any) -> None:
    """Exit unless the pool, a class or its name, runs tasks in threads of this process."""
    implementation = get_implementation(pool)
    if not issubclass(implementation, TaskPool):
        name = implementation.__module__.rpartition(".")[2]
        logs.report_failure(
            "worker",
            f"the pool {name} does not work: the tasks of a consumer share its connection "
            "to the engine, and need threads. Use `-P threads`, or no -P",
        )
        sys.exit(1)


def _end_as_orphan() -> None:
    """Finish running chunks, then exit: there is no supervisor to kill a hung consumer."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(settings.grace_s)
    # The remaining messages are not acknowledged and return to their queue.
    os._exit(1)


@signals.worker_ready.connect
def _announce(**_: Any) -> None:
    # With threads, Celery cannot cancel running tasks when a connection is lost, and logs that with
    # a traceback at each reconnect. The filter is set here because Celery's logging setup resets
    # earlier ones.
    warnings.filterwarnings(
        "ignore",
        r"(?s).*worker_cancel_long_running_tasks_on_connection_loss",
        CPendingDeprecationWarning,
    )
    lifeline.report()


@signals.worker_shutting_down.connect
def _withdraw(how: str, **_: Any) -> None:
    log.info("%s shutdown", how.lower())
    lifeline.report(lifeline.STOPPING)


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    _consumer.close()
