"""`blipline worker`: a worker, wherever its code lies."""

from __future__ import annotations

import os
import sys

import click

from ..annotate.embedded.worker_code import worker_environment
from .exit_codes import Exit


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> Exit:
    """Run a worker: the same as `python -m worker` in a checkout.

    It takes the same arguments, and needs the extra `blipline[worker]`.

    \b
      blipline worker --model Salesforce/blip-image-captioning-base
      blipline worker info Salesforce/blip2-opt-2.7b
      blipline worker download Salesforce/blip2-opt-2.7b
    """
    environment = {**os.environ, **worker_environment("blipline worker")}
    # The process itself becomes the worker: signals and exit codes are the worker's own.
    os.execve(sys.executable, [sys.executable, "-m", "worker", *arguments], environment)
