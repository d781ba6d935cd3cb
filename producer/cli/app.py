"""The program: its commands, signal handling, and the conversion of errors to exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from .exit_codes import EXIT_HELP, Exit, report_error
from .lazy_group import LazyCommand, LazyGroup

#: Module and summary of each command.
_COMMANDS: Final = {
    "annotate": ("annotate", "Caption a whole collection of images."),
    "ask": ("caption", "Ask a question about an image."),
    "batch": ("batch", "Submit files of items, and read their results."),
    "capfilt": (
        "capfilt",
        "Keep the texts of image-text pairs that match their image, and add synthetic captions.",
    ),
    "caption": ("caption", "Caption images."),
    "chat": ("chat", "Ask questions about an image in a dialogue."),
    "compare": (
        "sheet",
        "Write a page of two outputs side by side, with their differences marked word by word.",
    ),
    "dead": ("dead", "Inspect, retry and purge dead letters."),
    "describe": ("describe", "Describe images in detail."),
    "embed": ("match", "Print the unit vectors of images, or of texts."),
    "evaluate": ("evaluate", "Score captions, answers and retrieval, as published tables do."),
    "exporter": (
        "exporter",
        "Serve metrics of queues, batches, workers and Redis at /metrics, for Prometheus.",
    ),
    "gateway": ("gateway", "Serve Blipline's HTTP API, and a page for browsers at /ui."),
    "index": ("search", "Embed a collection of images for `blipline search`."),
    "keys": ("keys", "Create, list and revoke API keys of the gateway."),
    "match": ("match", "Rank texts by how well they describe an image."),
    "search": (
        "search",
        "Find the images of an index that are nearest to a text, or to an image.",
    ),
    "sheet": ("sheet", "Write a page of an output's images with their texts."),
    "status": (
        "status",
        "Print the number of workers that are alive, and the depth of the queues.",
    ),
    "up": ("up", "Start a Redis, a worker and the gateway, and print an API key."),
    "webhooks": (
        "webhooks",
        "List deliveries of webhooks, send a webhook again, and test a URL.",
    ),
    "worker": ("worker", "Run a worker: the same as `python -m worker` in a checkout."),
}


def _print_version(ctx: click.Context, parameter: click.Parameter, is_given: bool) -> None:
    if not is_given:
        return
    # It takes longer to import than all of click's own help.
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("blipline")
    except PackageNotFoundError:
        number = "(a checkout that is not installed)"
    click.echo(f"blipline, version {number}")
    ctx.exit()


@click.group(cls=LazyGroup, epilog=EXIT_HELP, context_settings={"max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def blipline() -> None:
    """Caption and describe images, ask about them, match or search them, through Blipline's queue.

    Data goes to stdout, notes and progress to stderr. BLIPLINE_REDIS_URL selects the Redis server.

    \b
      blipline caption cat.jpg
      blipline ask cat.jpg "how many cats are there?"
      blipline chat cat.jpg
      blipline describe cat.jpg
      blipline match cat.jpg "a cat" "a dog"
      blipline embed cat.jpg --json
      blipline annotate photos/
      blipline index photos
      blipline search "a cat on a sofa"
      blipline capfilt pairs.jsonl -o kept.jsonl
      blipline batch submit items.jsonl --wait -o results.jsonl
      blipline status
      blipline dead list
      blipline keys create acme
      blipline webhooks list acme
      blipline gateway
      blipline exporter
      blipline up
      blipline worker --model Salesforce/blip-image-captioning-base
      blipline sheet results.jsonl
      blipline compare a.jsonl b.jsonl
      blipline evaluate captions references.json results.jsonl
    """


for _name, (_module, _summary) in _COMMANDS.items():
    blipline.add_command(LazyCommand(_name, f".{_module}", _summary))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors are reported without a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    # Notes of the library, such as that it waits for Redis.
    logging.basicConfig(format="blipline: %(message)s", level=logging.WARNING)
    try:
        code = blipline.main(arguments, prog_name="blipline", standalone_mode=False)
        return int(code or Exit.OK)
    except (Exception, KeyboardInterrupt) as error:
        return int(report_error(error))


def _terminate(*_: object) -> NoReturn:
    """Exit by an exception, so that incomplete output files are deleted."""
    sys.exit(Exit.TERMINATED)
