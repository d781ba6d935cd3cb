"""`blipline match` and `blipline embed`: retrieval of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import click

from ..client import Client
from ..job import Job, Match
from . import options
from .exit_codes import Exit
from .output import print_json, print_line
from .single_jobs import TIMEOUT_HELP, OutputFormat, image_source, one_line, run_jobs


def _show_matches(image: str, matches: list[Match], alone: bool) -> None:
    for match in sorted(matches, key=lambda match: match.probability, reverse=True):
        print_line(f"{match.probability:.4f}\t{match.cosine:.4f}\t{one_line(match.text)}")


MATCHES: Final[OutputFormat[list[Match]]] = OutputFormat(
    fields=lambda matches: {"matches": [asdict(match) for match in matches]}, show=_show_matches
)
VECTORS: Final[OutputFormat[list[float]]] = OutputFormat(
    fields=lambda vector: {"embedding": vector},
    show=lambda subject, vector, alone: print_json(vector),
    # The n-th line is the vector of the n-th image.
    show_missing=lambda: print_json(None),
)
TEXT_VECTORS: Final = replace(VECTORS, subject_fields=lambda text: {"text": text})


@click.command()
@click.argument("image")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(
    'Print a JSON line: {"image", "status", "matches" or "error"}; matches in the order of TEXT.'
)
@options.redis_url
@options.when_full("raise")
@options.deadline
def match(
    image: str,
    texts: Sequence[str],
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Rank texts by how well they describe an image.

    The image is a file, a URL, blob:… or data:…. The output is a line for each text, the most
    probable text first, with tab-separated fields: the probability that the text describes the
    image, 0 to 1; the cosine of their embeddings, -1 to 1; the text. The worker needs a retrieval
    model, set by BLIPLINE_MATCH_MODEL or BLIPLINE_MODEL.

    \b
      blipline match cat.jpg "a cat" "a dog"
      blipline match cat.jpg "a cat" "a dog" | head -n 1 | cut -f 3
      blipline match https://example.com/cat.jpg "a photo of a cat" --json
    """

    def submit(image: str) -> Job[list[Match]]:
        source = image_source(image)
        return client.match(source, texts, **submit_options)

    with Client(redis_url) as client:
        return run_jobs([image], submit, MATCHES, timeout_s, as_json)


@click.command()
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@click.option(
    "--text", "texts", metavar="TEXT", multiple=True, help="A text to embed; may be repeated."
)
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json(
    'Print a JSON line for each: {"image" or "text", "status", "embedding" or "error"}.'
)
@options.redis_url
@options.when_full("raise")
@options.deadline
def embed(
    images: Sequence[str],
    texts: Sequence[str],
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **submit_options: Any,
) -> Exit:
    """Print the unit vectors of images, or of texts.

    The output is a line for each, in order: a JSON list of numbers, or null after an error. The
    dot product of two vectors measures how similar two images are, or how well a text describes an
    image. The worker needs a retrieval model, set by BLIPLINE_MATCH_MODEL or BLIPLINE_MODEL.

    \b
      blipline embed cat.jpg
      blipline embed photos/*.jpg --json > vectors.jsonl
      blipline embed --text "a cat on a sofa" --text "a dog"
    """
    if bool(images) == bool(texts):
        raise click.UsageError("give either images, or texts with --text")

    def submit_image(image: str) -> Job[list[float]]:
        source = image_source(image, "blipline embed", "blipline index {}")
        return client.embed(source, **submit_options)

    def submit_text(text: str) -> Job[list[float]]:
        return client.embed(text=text, **submit_options)

    with Client(redis_url) as client:
        if images:
            return run_jobs(images, submit_image, VECTORS, timeout_s, as_json)
        return run_jobs(texts, submit_text, TEXT_VECTORS, timeout_s, as_json)
