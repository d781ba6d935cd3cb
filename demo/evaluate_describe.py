"""Measure descriptions of held-out scenes by the whole system: `python -m demo.evaluate_describe`.

Starts a private Redis and a worker with the demo models, describes each scene in a batch, and
compares the claims of each text with the scene. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from random import Random
from statistics import mean
from typing import Any, Final, NamedTuple

from demo.scenes import BACKGROUNDS, COLORS, KINDS, Scene, random_picture, random_scene
from demo.stack import running_redis, running_worker
from producer import Client, Description, Task
from producer.contract import CHUNK_ITEMS

_COLOR, _KIND = "|".join(COLORS), "|".join(KINDS)
_PAIR: Final = re.compile(rf"\b({_COLOR}) ({_KIND})s?\b")
_RELATION: Final = re.compile(
    rf"\b({_COLOR}) ({_KIND}) (left of|right of|above|below) an? ({_COLOR}) ({_KIND})\b"
)
_BACKGROUND: Final = re.compile(rf"\b({'|'.join((*BACKGROUNDS, *COLORS))}) background\b")
_WORDS: Final = re.compile(rf"\b({'|'.join((*COLORS, *KINDS, *BACKGROUNDS))})s?\b")
_INVERSE: Final = {"right of": "left of", "below": "above"}
_CLAIMS: Final = ("objects", "colors", "relation", "background", "nothing absent")

Pair = tuple[str, str]


class Claims(NamedTuple):
    """The claims of a text about a scene."""

    words: frozenset[str]
    pairs: frozenset[Pair]
    relations: frozenset[tuple[Pair, str, Pair]]
    backgrounds: frozenset[str]


def claims_of(text: str) -> Claims:
    """Return the colors, shapes, relations and backgrounds that a text names."""
    text = text.lower()
    relations = set()
    # Relations may share a shape, so each begins anew after the previous one's first shape.
    position = 0
    while (match := _RELATION.search(text, position)) is not None:
        first, second = (match[1], match[2]), (match[4], match[5])
        if match[3] in _INVERSE:
            relations.add((second, _INVERSE[match[3]], first))
        else:
            relations.add((first, match[3], second))
        position = match.end(2)
    return Claims(
        frozenset(_WORDS.findall(text)),
        frozenset(_PAIR.findall(text)),
        frozenset(relations),
        frozenset(_BACKGROUND.findall(text)),
    )


def judge(scene: Scene, text: str) -> dict[str, bool | None]:
    """Return, for each claim, whether the text is right; None if the scene has no such claim."""
    claims = claims_of(text)
    pairs = [(shape.color, shape.kind) for shape in scene.shapes]
    kinds, colors = {kind for _, kind in pairs}, {color for color, _ in pairs}
    true_relations = {(pairs[0], scene.relation, pairs[-1])} if scene.relation else set()
    return {
        "objects": kinds <= claims.words,
        "colors": set(pairs) <= claims.pairs,
        "relation": true_relations <= claims.relations if scene.relation else None,
        "background": scene.background in claims.backgrounds,
        "nothing absent": claims.words <= kinds | colors | {scene.background}
        and claims.pairs <= set(pairs)
        and claims.relations <= true_relations
        and claims.backgrounds <= {scene.background},
    }


def held_out(scenes: int, seed: int) -> Iterator[tuple[Scene, bytes]]:
    """Yield scenes with their pictures, drawn as users may send them.

    About half of them have a relation: further ones with a relation follow, until there are
    `scenes` for that claim, too.
    """
    relations = 0
    for number in count():
        rng = Random(f"held out/describe/{seed}/{number}")
        scene = random_scene(rng)
        if number >= scenes and relations >= scenes:
            return
        if number < scenes or scene.relation:
            relations += bool(scene.relation)
            file = io.BytesIO()
            random_picture(rng, scene, largest=640).save(file, "PNG")
            yield scene, file.getvalue()


def describe_all(
    client: Client, pictures: Iterable[bytes], detail: str, options: Mapping[str, Any]
) -> Iterator[Description]:
    """Describe pictures in a batch; yield the descriptions in order."""
    items = ({"image": picture, "detail": detail} for picture in pictures)
    batch = client.submit_batch(items, Task.DESCRIBE, **options)
    for result in batch.results():
        if result.description is None:
            raise SystemExit(f"item {result.index} failed: {result.error}")
        if (result.index + 1) % CHUNK_ITEMS == 0:
            print(f"{result.index + 1:,} scenes", file=sys.stderr)
        yield result.description


def table(verdicts: Sequence[Mapping[str, bool | None]]) -> str:
    """Lay out the share of scenes for which each claim holds."""
    lines = ["| claim | scenes | right |", "|---|---:|---:|"]
    for claim in _CLAIMS:
        judged = [verdict[claim] for verdict in verdicts if verdict[claim] is not None]
        lines.append(f"| {claim} | {len(judged)} | {sum(map(bool, judged)) / len(judged):.1%} |")
    return "\n".join(lines)


def statistics(descriptions: Sequence[Description]) -> str:
    """Return a line about the length, the rounds and the time of descriptions."""
    words = mean(description.words for description in descriptions)
    rounds = mean(description.rounds for description in descriptions)
    ranked = ", ".join(Counter(description.ranked_by for description in descriptions))
    return f"{words:.1f} words, {rounds:.2f} rounds on average; ranked by {ranked}"


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000, help="scenes of each claim")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--detail", choices=("low", "medium", "high"), default="medium")
    parser.add_argument("--match-model", default="auto", help="`none`: rank by length and novelty")
    parser.add_argument("--show-errors", action="store_true", help="print texts with a wrong claim")
    args = parser.parse_args(arguments)
    drawn = list(held_out(args.scenes, args.seed))
    settings = {"BLIPLINE_MATCH_MODEL": args.match_model}
    with (
        running_redis() as url,
        running_worker(url, settings, quiet=True),
        Client(url) as client,
    ):
        pictures = (picture for _, picture in drawn)
        descriptions = list(describe_all(client, pictures, args.detail, {}))
    verdicts = []
    for (scene, _), description in zip(drawn, descriptions, strict=True):
        verdicts.append(judge(scene, description.text))
        if args.show_errors and False in verdicts[-1].values():
            print(f"{scene.caption()!r}: {description.text!r}", file=sys.stderr)
    print(table(verdicts), statistics(descriptions), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
