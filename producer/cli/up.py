"""`blipline up`: a Redis, a worker and the gateway, with one command."""

from __future__ import annotations

import click

from ..annotate.embedded.local_stack import local_stack
from ..annotate.embedded.worker_code import worker_environment
from ..connection.connect import connect, redis_errors
from ..gateway.access.api_keys import ApiKeys
from ..ledger.keys import Keys
from ..settings import ClientSettings
from .exit_codes import Exit, warn
from .gateway import check_extra, serve
from .output import print_line

#: Name of the key that the command creates.
_NAME = "local"


@click.command()
@click.option("--model", metavar="NAME", help="Model: a directory or a hub name.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on.  [default: 8000]",
)
def up(model: str | None, host: str | None, port: int | None) -> Exit:
    """Start a Redis, a worker and the gateway, and print an API key.

    All of them end with the command, and Redis forgets its jobs. The extra
    `blipline[worker]` has all that it needs.

    \b
      blipline up
      blipline up --model Salesforce/blip-image-captioning-base --port 8080
      curl -H "Authorization: Bearer blip_…" --data-binary @cat.jpg http://127.0.0.1:8000/v1/caption
    """
    # Before the gateway's own packages, which the worker's extra contains.
    worker_environment("blipline up")
    check_extra()
    click.echo("starting a Redis and a worker …", err=True)
    settings = {"BLIPLINE_MODEL": model} if model else {}
    with local_stack(settings, warn, "blipline up") as redis_url:
        key = _create_key(redis_url)

        def report(url: str) -> None:
            print_line(f"gateway: {url}")
            print_line(f"key: {key}")
            example = (
                f"curl -H 'Authorization: Bearer {key}' --data-binary @cat.jpg {url}/v1/caption"
            )
            click.echo(f"try: {example}", err=True)

        serve(host, port, redis_url, report)
    return Exit.OK


def _create_key(redis_url: str) -> str:
    settings = ClientSettings.load(redis_url=redis_url)
    with connect(redis_url) as client, redis_errors(redis_url):
        return ApiKeys(client, Keys(settings.key_prefix)).create(_NAME)
