"""`blipline gateway`: the HTTP server."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib.util import find_spec

import click

from ..connection.eviction import check_reachable_redis
from ..errors import InvalidInput
from ..extras import install_command
from ..observability import logs, tracing
from . import options
from .exit_codes import Exit
from .output import print_line

#: Packages of the extra `gateway`.
_EXTRA = frozenset(
    {
        "fastapi",
        "httptools",
        "httpx",
        "limits",
        "prometheus_client",
        "python_multipart",
        "sse_starlette",
        "standardwebhooks",
        "starlette",
        "uvicorn",
        "uvloop",
    }
)


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on.  [default: 8000]",
)
@options.redis_url
def gateway(host: str | None, port: int | None, redis_url: str | None) -> Exit:
    """Serve Blipline's HTTP API, and a page for browsers at /ui.

    Requests need an API key, which `blipline keys create NAME` creates. BLIPLINE_GATEWAY_RATE and
    related settings limit the use of a key. After SIGTERM the gateway completes the current
    requests and exits.

    \b
      blipline gateway
      blipline gateway --host 0.0.0.0 --port 8080
      curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/v1/queues
    """
    serve(host, port, redis_url, lambda url: print_line(f"gateway: {url}"))
    return Exit.OK


def check_extra() -> None:
    """Check that the packages of the gateway are installed; raises InvalidInput."""
    try:
        from ..gateway import app, server  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise InvalidInput(
            f"the gateway needs {error.name}: {install_command('gateway')}"
        ) from None


def serve(
    host: str | None, port: int | None, redis_url: str | None, on_ready: Callable[[str], None]
) -> None:
    """Run the gateway until a signal; call `on_ready` with its URL. Raises InvalidInput."""
    check_extra()
    from ..gateway.app import create_app
    from ..gateway.server import Server, listen, url_of
    from ..gateway.settings import GatewaySettings
    from ..hf_api import mount as mount_hf_api
    from ..openai_api import mount as mount_openai_api
    from ..replicate_api import mount as mount_replicate_api

    settings = GatewaySettings.load(gateway_host=host, gateway_port=port, redis_url=redis_url)
    check_reachable_redis(settings.redis_url)
    listening = listen(settings)
    logs.configure(settings, "gateway")
    tracing.configure("gateway")
    app = create_app(settings)
    for mount_api in (mount_openai_api, mount_hf_api, mount_replicate_api):
        mount_api(app)
    if settings.page and find_spec("gradio") is not None:
        from ..page import mount

        mount(app, app.state.gateway)
    server = Server(app, lambda: on_ready(url_of(listening)))
    # After the shutdown, uvicorn raises the signal again; the exit code must still be 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run([listening])
