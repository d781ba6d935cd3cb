"""`blipline gateway`: Blipline over HTTP."""

from __future__ import annotations

import signal
from importlib.util import find_spec

import click

from ..errors import InvalidInput
from . import options
from .exit_codes import Exit
from .output import print_line

#: What the extra `gateway` installs.
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
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="[default: 8000]")
@options.redis_url
def gateway(host: str | None, port: int | None, redis_url: str | None) -> Exit:
    """Serve Blipline over HTTP, and a page for people at /ui.

    Requests need an API key: `blipline keys create NAME` makes one. BLIPLINE_GATEWAY_RATE and its
    like say what a key may do. SIGTERM lets what was asked be answered, then ends it.

    \b
      blipline gateway
      blipline gateway --host 0.0.0.0 --port 8080
      curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/v1/queues
    """
    try:
        from ..gateway.app import create_app
        from ..gateway.logs import log_to_stderr
        from ..gateway.server import Server, address_of, listen
        from ..gateway.settings import GatewaySettings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise InvalidInput(
            f"the gateway needs {error.name}: pip install 'blipline[gateway]'"
        ) from None
    settings = GatewaySettings.load(gateway_host=host, gateway_port=port, redis_url=redis_url)
    listening = listen(settings)
    log_to_stderr()
    app = create_app(settings)
    if settings.page and find_spec("gradio") is not None:
        from ..page import mount

        mount(app, app.state.gateway)
    server = Server(app, lambda: print_line(f"gateway: {address_of(listening)}"))
    # uvicorn answers what was asked, then sends itself the signal again: that is the end, and no
    # error.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run([listening])
    return Exit.OK
