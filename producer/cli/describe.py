"""`blipline describe`: long descriptions of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import click

from ..client import Client
from ..contract import Detail, Task
from ..job import Job
from ..results.description import Description
from . import options
from .exit_codes import Exit, warn
from .live_text import stream_options
from .option_checks import SINGLE_TEXT_OPTIONS
from .single_jobs import TIMEOUT_HELP, OutputFormat, image_source, run_jobs, show_text


def _show(image: str, description: Description, alone: bool) -> None:
    _warn(image, description)
    show_text(image, description.text, alone)


def _warn(image: str, description: Description) -> None:
    if description.warning:
        warn(f"{image}: {description.warning}")


DESCRIPTION: Final[OutputFormat[Description]] = OutputFormat(
    fields=Description.to_json, show=_show, show_after=_warn
)


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--detail",
    type=click.Choice([level.value for level in Detail]),
    default=Detail.MEDIUM.value,
    show_default=True,
    help="One, two or three rounds; high also searches with beams.",
)
@click.option(
    "--prompt",
    "prompts",
    metavar="TEXT",
    multiple=True,
    help='A prompt of the first round; may be repeated; "" is a caption without a prompt.',
)
@options.stream
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(
    'Print a JSON line for each image: {"image", "status", "text", "candidates", …} or "error".'
)
@options.adapter
@options.redis_url
@options.when_full("raise")
@options.deadline
@options.decoding_without(*SINGLE_TEXT_OPTIONS)
def describe(
    images: Sequence[str],
    detail: str,
    prompts: Sequence[str],
    stream: bool,
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Describe images in detail.

    Several prompts run together, and each later round adds what the description lacks. Sentences
    that the image does not support, repeat others or contradict them are dropped. With a retrieval
    model (BLIPLINE_MATCH_MODEL) the worker ranks sentences by image-text matching, otherwise by
    length and novelty; "ranked_by" of --json tells which. Options with their default value are
    those of the level of detail (docs/tasks.md).

    \b
      blipline describe cat.jpg
      blipline describe photos/*.jpg --detail high --json > descriptions.jsonl
      blipline describe cat.jpg --prompt "" --prompt "the cat is"
      blipline describe cat.jpg --num-beams 6 --temperature 0.9 --seed 1 --max-new-tokens 250
    """
    live = stream_options(stream, as_json)

    def submit(image: str) -> Job[Description]:
        source = image_source(image, "blipline describe", "blipline annotate {} --task describe")
        return client.describe(
            source, prompts=prompts or None, detail=detail, **submit_options, **live
        )

    options.check_generation(submit_options, Task.DESCRIBE)
    output = replace(DESCRIPTION, grows=bool(live))
    with Client(redis_url) as client:
        return run_jobs(images, submit, output, timeout_s, as_json)


options.show_defaults(
    describe,
    **dict.fromkeys(
        (
            *("max_new_tokens", "no_repeat_ngram_size", "num_beams"),
            *("length_penalty", "repetition_penalty"),
        ),
        "by --detail",
    ),
)
