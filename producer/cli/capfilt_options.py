"""Options of `blipline capfilt` that select pairs, and that select texts."""

from __future__ import annotations

from typing import Final, get_args

import click

from ..contract import CAPTIONS, MAX_CAPTIONS, THRESHOLD
from ..image_sources.options import LineFormat
from . import options

_PROBABILITY: Final = options.FiniteRange(0, 1)


def source_options(command: options.Command) -> options.Command:
    """Add the options that read pairs."""
    for option in reversed(
        (
            click.option(
                "--format",
                "line_format",
                type=click.Choice(get_args(LineFormat)),
                help="Format of files and of stdin; without it, that of the name, or jsonl.",
            ),
            click.option(
                "--image-column",
                metavar="NAME",
                help="Column of tables with paths, URLs or bytes; by default the first of image, "
                "file_name, path, url, …",
            ),
            click.option(
                "--text-column",
                metavar="NAME",
                help="Column of tables with the text, or a list of texts; by default the first of "
                "text, caption, TEXT, …",
            ),
            click.option(
                "--label-column",
                metavar="NAME",
                default="label",
                show_default=True,
                help="Column of tables with the label: true if the text is right, else false.",
            ),
            click.option(
                "-0",
                "--null",
                "null_separated",
                is_flag=True,
                help="Paths on stdin end with NUL, as from find -print0.",
            ),
        )
    ):
        command = option(command)
    return command


def filter_options(command: options.Command) -> options.Command:
    """Add the options that select texts."""
    for option in reversed(
        (
            click.option(
                "--captions",
                type=click.IntRange(0, MAX_CAPTIONS),
                default=CAPTIONS,
                show_default=True,
                help="Synthetic captions of each image; 0 = only filter.",
            ),
            click.option(
                "--threshold",
                type=_PROBABILITY,
                default=THRESHOLD,
                show_default=True,
                help="Keep texts from this probability on.",
            ),
            click.option(
                "--synthetic-threshold",
                type=_PROBABILITY,
                help="Threshold of synthetic captions, if it differs.",
            ),
            click.option(
                "--calibrate",
                "labelled",
                metavar="LABELLED",
                help="Pick the threshold from pairs with labels, for --precision.",
            ),
            click.option(
                "--precision",
                type=options.FiniteRange(0, 1, min_open=True),
                default=0.95,
                show_default=True,
                help="Wanted share of right texts among the accepted ones.",
            ),
        )
    ):
        command = option(command)
    return command
