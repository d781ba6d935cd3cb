"""`blipline match` and `blipline embed`: images beside texts."""

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
from .single_jobs import TIMEOUT_HELP, OutputFormat, answer, check_image, one_line


def _show_matches(image: str, matches: list[Match], alone: bool) -> None:
    for one in sorted(matches, key=lambda match: match.probability, reverse=True):
        print_line(f"{one.probability:.4f}\t{one.cosine:.4f}\t{one_line(one.text)}")


def _show_vector(subject: str, vector: list[float], alone: bool) -> None:
    print_json(vector)


MATCHES: Final[OutputFormat[list[Match]]] = OutputFormat(
    fields=lambda matches: {"matches": [asdict(match) for match in matches]}, show=_show_matches
)


VECTORS: Final[OutputFormat[list[float]]] = OutputFormat(
    fields=lambda vector: {"embedding": vector},
    show=_show_vector,
    # The n-th line stays that of the n-th image.
    show_none=lambda: print_json(None),
)
TEXT_VECTORS: Final = replace(VECTORS, about=lambda text: {"text": text})


@click.command()
@click.argument("image")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json('A JSON line: {"image", "status", "matches" or "error"}; texts in their order.')
@options.redis_url
@options.when_full("raise")
@options.deadline
def match(
    image: str,
    texts: Sequence[str],
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **how: Any,
) -> Exit:
    """Say how well texts fit an image, the likeliest first.

    The image is a file, a URL, or a blob: reference. A line for each text, with tabs between: the
    probability that it describes the image, 0 to 1; the cosine of their embeddings, -1 to 1; the
    text. The worker needs a retrieval model: BLIPLINE_MATCH_MODEL, or BLIPLINE_MODEL itself.

    \b
      blipline match cat.jpg "a cat" "a dog"
      blipline match cat.jpg "a cat" "a dog" | head -n 1 | cut -f 3
      blipline match https://example.com/cat.jpg "a photo of a cat" --json
    """

    def submit(image: str) -> Job[list[Match]]:
        check_image(image)
        return client.match(image, texts, **how)

    with Client(redis_url) as client:
        return answer([image], submit, MATCHES, timeout_s, as_json)


@click.command()
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@click.option("--text", "texts", metavar="TEXT", multiple=True, help="A text; may be repeated.")
@options.timeout(options.ANSWER_TIMEOUT_S, TIMEOUT_HELP)
@options.as_json('A JSON line for each: {"image" or "text", "status", "embedding" or "error"}.')
@options.redis_url
@options.when_full("raise")
@options.deadline
def embed(
    images: Sequence[str],
    texts: Sequence[str],
    timeout_s: float,
    as_json: bool,
    redis_url: str | None,
    **how: Any,
) -> Exit:
    """Print the unit vectors of images, or of texts.

    A line each, in order: a JSON list of numbers, or null where there is none. The dot product of
    two vectors says how alike two images are, or how well a text fits an image. The worker needs a
    retrieval model: BLIPLINE_MATCH_MODEL, or BLIPLINE_MODEL itself.

    \b
      blipline embed cat.jpg
      blipline embed photos/*.jpg --json > vectors.jsonl
      blipline embed --text "a cat on a sofa" --text "a dog"
    """
    if bool(images) == bool(texts):
        raise click.UsageError("give images, or texts with --text: one of them, not both")

    def of_image(image: str) -> Job[list[float]]:
        check_image(image, "blipline embed")
        return client.embed(image, **how)

    def of_text(text: str) -> Job[list[float]]:
        return client.embed(text=text, **how)

    with Client(redis_url) as client:
        if images:
            return answer(images, of_image, VECTORS, timeout_s, as_json)
        return answer(texts, of_text, TEXT_VECTORS, timeout_s, as_json)
