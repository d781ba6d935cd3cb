"""Measure CapFilt on made pairs, 40 % of them wrong: `python -m demo.evaluate_capfilt`.

Starts a private Redis and a worker with the demo models, and filters the pairs by the command
`blipline capfilt`. A wrong text has a wrong color, shape, relation or background, or is that of
another picture. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from demo.match_texts import OPPOSITE, caption, errors
from demo.scenes import Scene, random_picture, random_scene
from demo.stack import running_redis, running_worker
from producer.cli.app import run

#: Share of wrong texts.
WRONG: Final = 0.4
#: The kinds of wrong texts, equally frequent.
KINDS: Final = ("color", "shape", "relation", "background", "other picture")


class MadePair(NamedTuple):
    """A picture with its caption, and the text of the pair."""

    picture: bytes
    caption: str
    text: str
    #: "right", or an entry of KINDS.
    kind: str


def made_pairs(count: int, seed: int) -> Iterator[MadePair]:
    """Yield pairs in random order; the share of wrong ones is exact."""
    kinds = ["right"] * count
    wrong = round(count * WRONG)
    kinds[:wrong] = [KINDS[number % len(KINDS)] for number in range(wrong)]
    Random(f"capfilt/{seed}").shuffle(kinds)
    for number, kind in enumerate(kinds):
        rng = Random(f"held out/capfilt/{seed}/{number}")
        scene = random_scene(rng, 2 if kind == "relation" else None)
        file = io.BytesIO()
        random_picture(rng, scene, largest=640).save(file, "PNG")
        yield MadePair(file.getvalue(), scene.caption(), _text(rng, scene, kind), kind)


def _text(rng: Random, scene: Scene, kind: str) -> str:
    """Return a text of this kind; a wrong one is never true."""
    if kind == "right":
        return caption(scene).text
    if kind == "other picture":
        return _other_caption(rng, scene)
    kinds = ("relation", "sides") if kind == "relation" else (kind,)
    return rng.choice([text.text for text in errors(rng, scene) if text.kind in kinds])


def _other_caption(rng: Random, scene: Scene) -> str:
    while (text := random_scene(rng).caption()) == scene.caption():
        pass
    return text


def is_true(text: str, true_caption: str) -> bool:
    """Return whether a synthetic caption is the caption of the picture, or its converse."""
    return text == true_caption or _converse(text) == true_caption


def _converse(text: str) -> str:
    """Return a caption with its sides exchanged, by the inverse relation."""
    inverse = {"left of": "right of", "above": "below"}
    for relation in OPPOSITE:
        shapes, _, background = text.partition(" on ")
        first, separator, second = shapes.partition(f" {inverse[relation]} ")
        if separator:
            return f"{second} {relation} {first} on {background}"
    return text


def write_pairs(pairs: Iterator[MadePair], folder: Path) -> tuple[Path, list[MadePair]]:
    """Write pictures and labelled pairs; return the file and the pairs without their pictures."""
    path, made = folder / "pairs.jsonl", []
    with path.open("w") as file:
        for number, pair in enumerate(pairs):
            image = folder / f"{number}.png"
            image.write_bytes(pair.picture)
            label = pair.kind == "right"
            line = {"image": str(image), "text": pair.text, "label": label}
            file.write(json.dumps(line | {"custom_id": str(number)}) + "\n")
            made.append(pair._replace(picture=b""))
    return path, made


def table(made: list[MadePair], accepted: list[Any], rejected: list[Any]) -> str:
    """Lay out the decisions on web texts by their kind, and the accuracy of synthetic captions."""
    web_accepted = {int(line["custom_id"]) for line in accepted if line["source"] == "web"}
    kinds = Counter(pair.kind for pair in made)
    accepted_kinds = Counter(made[number].kind for number in web_accepted)
    lines = ["| web text | pairs | accepted | judged rightly |", "|---|---:|---:|---:|"]
    for kind in ("right", *KINDS):
        count, accepted_count = kinds[kind], accepted_kinds[kind]
        right = accepted_count if kind == "right" else count - accepted_count
        lines.append(f"| {kind} | {count} | {accepted_count} | {right / count:.1%} |")
    lines += ["", "| synthetic captions | captions | right |", "|---|---:|---:|"]
    for name, accuracy in _synthetic(made, accepted, rejected).items():
        lines.append(f"| {name} | {accuracy[0]} | {accuracy[1] / max(1, accuracy[0]):.1%} |")
    return "\n".join(lines)


def _synthetic(
    made: list[MadePair], accepted: list[Any], rejected: list[Any]
) -> Mapping[str, tuple[int, int]]:
    """Return the number of synthetic captions and of right ones: all, and accepted ones.

    A caption that equals the web text is listed as web, and right if the web text is.
    """
    true: dict[bool, list[bool]] = {True: [], False: []}
    listed = set()
    for is_accepted, lines in ((True, accepted), (False, rejected)):
        for line in lines:
            if line["source"] == "synthetic":
                number = int(line["custom_id"])
                listed.add(number)
                true[is_accepted].append(is_true(line["text"], made[number].caption))
    web_accepted = {int(line["custom_id"]) for line in accepted if line["source"] == "web"}
    for number, pair in enumerate(made):
        if number not in listed:
            true[number in web_accepted].append(pair.kind == "right")
    everything = true[True] + true[False]
    return {
        "generated": (len(everything), sum(everything)),
        "accepted by the filter": (len(true[True]), sum(true[True])),
    }


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--report", type=Path, help="directory of the report")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="blipline-capfilt-") as directory:
        folder = Path(directory)
        path, made = write_pairs(made_pairs(args.pairs, args.seed), folder)
        accepted, rejected = folder / "accepted.jsonl", folder / "rejected.jsonl"
        report = args.report or folder / "report"
        command = ["capfilt", str(path), "-o", str(accepted), "--rejected", str(rejected)]
        command += ["--seed", str(args.seed), "--threshold", str(args.threshold)]
        with running_redis() as url, running_worker(url, quiet=True):
            started = time.monotonic()
            code = run([*command, "--report", str(report), "--redis-url", url])
            seconds = time.monotonic() - started
        if code:
            raise SystemExit(code)
        lines = ([json.loads(line) for line in file.open()] for file in (accepted, rejected))
        print("", table(made, *lines), "", f"{args.pairs / seconds:.1f} pairs/s", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
