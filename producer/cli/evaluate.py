"""`blipline evaluate`: metrics of published tables, computed on results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

import click

from ..errors import InvalidInput
from ..evaluation.annotations import read_answers, read_captioned_images
from ..evaluation.captions import score_captions
from ..evaluation.results import TextResults, image_ids, known_ids, read_texts
from ..evaluation.vqa import score_answers
from ..image_sources.distinct_files import check_distinct
from . import options
from .evaluate_items import items, retrieval_module, split, top
from .exit_codes import Exit, warn
from .output import json_lines_to, print_json, print_line

_PARTIAL_HELP: Final = "Score what is there; without it, each image or question needs a result."

_partial = click.option("--partial", is_flag=True, help=_PARTIAL_HELP)
_each = click.option(
    "--each", metavar="OUT.jsonl", help="Also write the score of each image or question."
)
_as_json = options.as_json("Print a JSON object.")


def _file(
    name: str, metavar: str, *, or_folder: bool = False
) -> Callable[[options.Command], options.Command]:
    return click.argument(name, metavar=metavar, type=click.Path(exists=True, dir_okay=or_folder))


@click.group()
def evaluate() -> None:
    """Score captions, answers and retrieval, as published tables do.

    docs/reproduce.md lists the commands and the published numbers for BLIP, BLIP-2 and
    InstructBLIP. Results are files of `blipline batch results`, or JSON in the forms of COCO and
    VQA; nothing is sent to Redis.

    \b
      blipline evaluate items coco_karpathy_test.json --images coco -o items.jsonl
      blipline batch submit items.jsonl --num-beams 3 --wait -o captions.jsonl
      blipline evaluate captions coco_karpathy_test.json captions.jsonl
    """


@evaluate.command()
@_file("references", "REFERENCES", or_folder=True)
@_file("results", "RESULTS", or_folder=True)
@click.option(
    "--remove-prefix",
    default="",
    metavar="TEXT",
    help="Remove the prompt that captions begin with.",
)
@split
@_partial
@_each
@_as_json
def captions(
    references: str,
    results: str,
    remove_prefix: str,
    split: str,
    partial: bool,
    each: str | None,
    as_json: bool,
) -> Exit:
    """Print BLEU, ROUGE-L, CIDEr and exact match of captions.

    REFERENCES is a file in COCO's, Karpathy's or BLIP's form, a table (JSON lines, CSV, Parquet) or
    JSON with the names of images and their captions in "text", "caption" or "texts", or a folder of
    caption files. RESULTS is COCO's [{"image_id", "caption"}], or any output of annotate or batch,
    with "caption" or "text" and the image's id or file name in "image_id", "custom_id", "file_name"
    or "image".

    Scores are fractions; published tables show them times 100. The metrics equal those of
    pycocoevalcap, which calls CIDEr-D CIDEr, without Java. METEOR and SPICE are not offered.

    \b
      blipline evaluate captions coco_karpathy_test.json captions.jsonl
      blipline evaluate captions captions_val2014.json results.json --partial --json
      blipline evaluate captions corrected/ captions.jsonl
    """
    check_distinct({"--each": each}, [references, results])
    images = read_captioned_images(references, split)
    given = read_texts(results, image_ids(images))
    _check_complete(results, given, {image.id for image in images}, partial)
    texts = {key: text.removeprefix(remove_prefix).strip() for key, text in given.texts.items()}
    scores = score_captions(texts, {image.id: image.captions for image in images})
    if each is not None:
        with json_lines_to(each) as write:
            for key, (rouge_l, cider) in scores.by_image.items():
                write({"image_id": key, "caption": texts[key], "ROUGE_L": rouge_l, "CIDEr": cider})
    _show(scores.to_json(), "fraction", as_json)
    return Exit.OK


@evaluate.command()
@_file("annotations", "ANNOTATIONS.json")
@_file("results", "RESULTS")
@_partial
@_each
@_as_json
def vqa(annotations: str, results: str, partial: bool, each: str | None, as_json: bool) -> Exit:
    """Print the accuracy of answers by the rules of VQAv2.

    ANNOTATIONS is a file in the VQA form. RESULTS is [{"question_id", "answer"}], or JSON lines
    with "answer" or "text" and the question's id in "question_id" or "custom_id".

    The accuracy, in percent, equals that of the official evaluation.

    \b
      blipline evaluate vqa v2_mscoco_val2014_annotations.json answers.jsonl
    """
    check_distinct({"--each": each}, [annotations, results])
    questions = read_answers(annotations)
    answers = read_texts(results, known_ids(questions))
    _check_complete(results, answers, questions, partial)
    scored = {key: question for key, question in questions.items() if key in answers.texts}
    scores = score_answers(answers.texts, scored)
    if each is not None:
        with json_lines_to(each) as write:
            for key, score in scores.by_question.items():
                write({"question_id": key, "answer": answers.texts[key], "accuracy": score})
    _show(scores.to_json(), "percent", as_json)
    return Exit.OK


@evaluate.command()
@_file("dataset", "DATASET.json")
@_file("vectors", "VECTORS.jsonl")
@click.option("--matches", metavar="MATCHES.jsonl", help="Results of the match items: re-rank.")
@top
@split
@_as_json
def retrieval(
    dataset: str, vectors: str, matches: str | None, top: int, split: str, as_json: bool
) -> Exit:
    """Print the recall of image-text retrieval at 1, 5 and 10, in percent.

    DATASET is a file of captions; VECTORS are the results of `evaluate items --task embed`. With
    --matches, the results of `evaluate items --task match`, the first candidates are re-ranked by
    image-text matching, as published tables do. The data set, its split and --top must be equal in
    all commands.

    \b
      blipline evaluate retrieval coco_karpathy_test.json vectors.jsonl
      blipline evaluate retrieval coco_karpathy_test.json vectors.jsonl --matches matches.jsonl
    """
    module = retrieval_module()
    images = read_captioned_images(dataset, split)
    embeddings = module.Embeddings.read(vectors, images)
    if matches is None:
        scores = module.score_retrieval(embeddings)
    else:
        scores = module.score_reranked(embeddings, module.read_matches(matches, embeddings), top)
    _show(scores.to_json(), "percent", as_json)
    return Exit.OK


evaluate.add_command(items)


def _check_complete(
    path: str, results: TextResults, expected: Collection[int | str], partial: bool
) -> None:
    """Raise InvalidInput if a result is missing; with `partial`, warn."""
    missing = len(expected) - len(results.texts)
    if not missing:
        return
    message = f"{path}: {missing:,} of {len(expected):,} results are missing"
    if results.failures:
        message += f", {len(results.failures):,} are errors, the first: {results.failures[0]}"
    if not partial:
        raise InvalidInput(f"{message}. --partial scores the others")
    warn(message)


def _show(scores: Mapping[str, Any], unit: Literal["fraction", "percent"], as_json: bool) -> None:
    """Print scores as JSON, or as a line for each, with tab-separated fields."""
    if as_json:
        print_json({**scores, "unit": unit})
        return
    warn("scores in percent" if unit == "percent" else "scores as fractions: 1 is 100 in tables")
    for name, value in scores.items():
        if isinstance(value, Mapping):
            for inner, score in value.items():
                print_line(f"{name} {inner}\t{score:.2f}")
        else:
            print_line(f"{name}\t{value:,}" if isinstance(value, int) else f"{name}\t{value:.4f}")
