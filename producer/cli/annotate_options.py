"""Options of `blipline annotate` that select images, and that select and change texts."""

from __future__ import annotations

from typing import Final, get_args

import click

from ..annotate.texts.text_rules import Existing
from ..contract import Detail, Task
from . import options

#: Tasks that write a text about an image alone.
_TASKS: Final = [Task.CAPTION.short, Task.DESCRIBE.short]


def source_options(command: options.Command) -> options.Command:
    """Add the options that select images."""
    for option in reversed(
        (
            click.option(
                "--where", multiple=True, metavar="CONDITION",
                help="Only images that meet it, as 'width>=512', 'name=*.png', 'folder~cats'; "
                "several must all hold.",
            ),
            click.option(
                "--sample", type=click.IntRange(min=1), metavar="N",
                help="Only N random images; a rerun takes the same.",
            ),
            click.option(
                "--sample-seed", type=int, default=0, show_default=True, metavar="N",
                help="Another seed takes another sample.",
            ),
            click.option(
                "--near-duplicates", is_flag=True,
                help="Caption images that look the same once (dHash, 3 of 64 bits).",
            ),
            click.option(
                "--image-column", metavar="NAME",
                help="Column of tables with paths, URLs or bytes; by default the first of image, "
                "file_name, path, url, …",
            ),
            click.option(
                "--text-column", metavar="NAME", default="text", show_default=True,
                help="Column of tables with the caption.",
            ),
            click.option(
                "-0", "--null", "null_separated", is_flag=True,
                help="Entries of standard input end with NUL, as from find -print0.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def text_options(command: options.Command) -> options.Command:
    """Add the options that select and change texts."""
    for option in reversed(
        (
            click.option(
                "--task", type=click.Choice(_TASKS), default=Task.CAPTION.short,
                show_default=True, help="Kind of text.",
            ),
            click.option(
                "--prompt", "prompts", multiple=True, metavar="TEXT",
                help="Beginning of every caption; with --task describe, a prompt of the first "
                "round, and repeatable.",
            ),
            click.option(
                "--detail", type=click.Choice([level.value for level in Detail]),
                help="With --task describe: one, two or three rounds.  [default: medium]",
            ),
            click.option(
                "--ask", "questions", multiple=True, metavar="QUESTION",
                help="Answer this question instead; several are answered in turn.",
            ),
            click.option(
                "--captions", type=click.IntRange(1, 64), default=1, show_default=True,
                metavar="N", help="Captions of each image; further ones are sampled.",
            ),
            click.option("--prefix", default="", metavar="TEXT", help="Text before each caption."),
            click.option("--suffix", default="", metavar="TEXT", help="Text after each caption."),
            click.option(
                "--replace", nargs=2, multiple=True, metavar="REGEX TEXT",
                help=r"Replace in each caption, before prefix and suffix; \1 is a group.",
            ),
            click.option(
                "--ban", multiple=True, metavar="PHRASE",
                help="Regenerate captions with this phrase, under another seed.",
            ),
            click.option(
                "--ban-tries", type=click.IntRange(1, 20), default=4, show_default=True,
                metavar="N", help="Texts until an image with banned phrases fails.",
            ),
            click.option(
                "--existing", type=click.Choice(get_args(Existing)), default="skip",
                show_default=True, help="Treatment of images that have a caption.",
            ),
            click.option(
                "--separator", default=", ", show_default=True, metavar="TEXT",
                help="Text between the captions of --existing append and prepend.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command
