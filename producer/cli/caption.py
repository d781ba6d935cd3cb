"""`blipline caption` and `blipline ask`: texts about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from ..client import Client
from ..contract import Task
from ..job import Job
from . import options
from .exit_codes import Exit
from .live_text import stream_options
from .single_jobs import TEXT, TIMEOUT_HELP, image_source, run_text_jobs

_JSON_HELP = 'Print a JSON line for each image: {"image", "status", "text" or "error"}.'


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--prompt", metavar="TEXT", help="Beginning of every caption.")
@options.stream
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.adapter
@options.redis_url
@options.when_full("raise")
@options.generation
def caption(
    images: Sequence[str],
    prompt: str | None,
    stream: bool,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Caption images.

    An image is a file, a URL, blob:… or data:…. The output for a single image is its caption; for
    several it is a line for each: the image, a tab, the caption. Control characters of a name are
    printed as escapes.

    \b
      blipline caption cat.jpg
      blipline caption photos/*.jpg --json > captions.jsonl
      blipline caption https://example.com/cat.jpg --prompt "a photo of"
      blipline caption cat.jpg --temperature 0.8 --seed 1
      blipline caption cat.jpg --stream --max-new-tokens 60
    """
    live = stream_options(stream, as_json)

    def submit(image: str) -> Job[str]:
        source = image_source(image, "blipline caption", "blipline annotate {}")
        return client.caption(source, prompt, **submit_options, **live)

    options.check_generation(submit_options, Task.CAPTION)
    output = replace(TEXT, grows=bool(live))
    with Client(redis_url) as client:
        return run_text_jobs(images, submit, output, timeout_s, as_json, submit_options)


@click.command()
@click.argument("image")
@click.argument("question")
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="TEXT",
    help="A possible answer: the model ranks all of them.  Repeatable.",
)
@options.stream
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(_JSON_HELP)
@options.adapter
@options.redis_url
@options.when_full("raise")
@options.generation
def ask(
    image: str,
    question: str,
    answers: Sequence[str],
    stream: bool,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Ask a question about an image.

    The image is a file, a URL, blob:… or data:….

    \b
      blipline ask cat.jpg "how many cats are there?"
      blipline ask https://example.com/cat.jpg "what color is it?" --json
      blipline ask cat.jpg "is it a cat?" --answer yes --answer no --output-scores
    """
    live = stream_options(stream, as_json)

    def submit(image: str) -> Job[str]:
        source = image_source(image)
        return client.ask(source, question, answers=answers or None, **submit_options, **live)

    options.check_generation(submit_options, Task.VQA, ranks=bool(answers))
    output = replace(TEXT, grows=bool(live))
    with Client(redis_url) as client:
        return run_text_jobs(
            [image], submit, output, timeout_s, as_json, submit_options, ranks=bool(answers)
        )
