"""`blipline exporter`: Prometheus metrics of the job store."""

from __future__ import annotations

import signal
import threading

import click

from ..connection.eviction import check_reachable_redis
from ..errors import InvalidInput
from ..extras import install_command
from ..observability import logs
from ..settings import ProcessSettings
from . import options
from .exit_codes import Exit
from .output import print_line


@click.command()
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=9101,
    show_default=True,
    help="Port to listen on; 0: any.",
)
@options.redis_url
def exporter(host: str, port: int, redis_url: str | None) -> Exit:
    """Serve metrics of queues, batches, workers and Redis at /metrics, for Prometheus.

    A gateway serves the same ones at its own /metrics: the exporter is for deployments without a
    gateway. It needs no key. While Redis is down, blipline_redis_up is 0.

    \b
      blipline exporter
      blipline exporter --host 0.0.0.0 --port 9101
    """
    try:
        from ..metrics.exporter import Exporter
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise InvalidInput(
            f"the exporter needs {error.name}: {install_command('exporter')}"
        ) from None
    settings = ProcessSettings.load(redis_url=redis_url)
    check_reachable_redis(settings.redis_url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logs.configure(settings, "exporter")
    metrics = Exporter(settings)
    print_line(f"exporter: {metrics.start(host, port)}")
    stop.wait()
    metrics.close()
    return Exit.OK
