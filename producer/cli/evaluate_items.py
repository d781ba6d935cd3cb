"""`blipline evaluate items`: a data set as a file for `blipline batch submit`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import click

from ..errors import InvalidInput
from ..evaluation.annotations import read_captioned_images, read_questions
from ..evaluation.items import caption_items, embedding_items, match_items, question_items
from ..extras import install_command
from ..image_sources.distinct_files import check_distinct
from .exit_codes import Exit, warn
from .output import json_lines_to

#: Candidates of each direction that are re-ranked, as in BLIP's evaluation on COCO.
TOP: Final = 256

split = click.option(
    "--split", default="test", show_default=True, help="Split of a file in Karpathy's form."
)
top = click.option(
    "--top",
    type=click.IntRange(min=1),
    default=TOP,
    show_default=True,
    metavar="K",
    help="Candidates of each image and of each text that are re-ranked.",
)


@click.command()
@click.argument("dataset", metavar="DATASET.json", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--task",
    type=click.Choice(["caption", "vqa", "embed", "match"]),
    default="caption",
    show_default=True,
    help="Task of the items; match needs --vectors.",
)
@click.option("--images", "folder", default=".", metavar="FOLDER", help="Folder of the images.")
@click.option("--prompt", help="caption: beginning of each caption.")
@click.option(
    "--image-name",
    default="COCO_val2014_{:012d}.jpg",
    show_default=True,
    metavar="FORMAT",
    help="vqa: file name of an image, given its id.",
)
@click.option("--vectors", metavar="VECTORS.jsonl", help="match: results of the embed items.")
@top
@split
@click.option("-o", "--output", metavar="OUT", help="Write the items to this file, not to stdout.")
def items(
    dataset: str,
    task: str,
    folder: str,
    prompt: str | None,
    image_name: str,
    vectors: str | None,
    top: int,
    split: str,
    output: str | None,
) -> Exit:
    """Write the items of a data set for `blipline batch submit`.

    DATASET is a file of captions in COCO's, Karpathy's or BLIP's form; for --task vqa, a file of
    questions in the VQA form.

    \b
      blipline evaluate items coco_karpathy_test.json --images coco -o items.jsonl
      blipline evaluate items v2_OpenEnded_mscoco_val2014_questions.json --task vqa \\
        --images coco/val2014 -o items.jsonl
      blipline evaluate items coco_karpathy_test.json --task embed --images coco -o items.jsonl
      blipline evaluate items coco_karpathy_test.json --task match --vectors vectors.jsonl \\
        --images coco -o pairs.jsonl
    """
    check_distinct({"-o": output}, [dataset, vectors])
    with json_lines_to(output) as write:
        for item in _items(dataset, task, folder, prompt, image_name, vectors, top, split):
            write(item)
    if not os.path.isdir(folder):
        warn(f"--images {folder}: there is no such folder here; the items name files in it")
    return Exit.OK


def _items(
    dataset: str,
    task: str,
    folder: str,
    prompt: str | None,
    image_name: str,
    vectors: str | None,
    top: int,
    split: str,
) -> Iterator[dict[str, Any]]:
    if task == "vqa":
        yield from question_items(read_questions(dataset), folder, image_name)
        return
    images = read_captioned_images(dataset, split)
    if task == "caption":
        yield from caption_items(images, folder, prompt)
    elif task == "embed":
        yield from embedding_items(images, folder)
    elif vectors is None:
        raise click.UsageError("--task match needs --vectors, the results of the embed items")
    else:
        retrieval = retrieval_module()
        embeddings = retrieval.Embeddings.read(vectors, images)
        yield from match_items(images, folder, retrieval.candidate_texts(embeddings, top))


def retrieval_module() -> Any:
    """Return the retrieval module; raises InvalidInput if numpy is not installed."""
    if find_spec("numpy") is None:
        raise InvalidInput(f"retrieval needs numpy: {install_command('evaluate')}")
    from ..evaluation import retrieval

    return retrieval
