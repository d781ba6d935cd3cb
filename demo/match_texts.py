"""What is true of a scene, and what is almost true of it: the texts of the retrieval model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

from demo.articles import indefinite, substitute
from demo.scenes import BACKGROUNDS, COLORS, KINDS, Scene, random_scene

#: Where a caption's words lie, counted from its end (the first shape's: from its beginning).
COLOR_PLACES, KIND_PLACES, BACKGROUND_PLACE = (1, -6), (2, -5), -2
#: Where the relation's first word lies.
RELATION_PLACE = 3

OPPOSITE = {"left of": "above", "above": "left of"}

#: The kinds of error: exactly one thing is wrong. The last two need two shapes.
ERRORS = ("color", "shape", "background", "relation", "sides")


class Text(NamedTuple):
    """`wrong` holds the place of the word that is wrong; None where no single word is."""

    kind: str  #: "caption", one of ERRORS, or why else it does not, or does, belong
    text: str
    true: bool
    wrong: int | None = None


def caption(scene: Scene) -> Text:
    """The one caption of this scene."""
    return Text("caption", scene.caption(), True)


def errors(rng: Random, scene: Scene) -> list[Text]:
    """The caption with one thing wrong: one text for each kind of error that the scene admits."""
    words = scene.caption().split()
    colors = [shape.color for shape in scene.shapes]
    kinds = [shape.kind for shape in scene.shapes]
    number = rng.randrange(len(scene.shapes))
    color, kind = _another(rng, COLORS, colors, number), _another(rng, KINDS, kinds, number)
    texts = [
        _changed("color", words, COLOR_PLACES[number], color),
        _changed("shape", words, KIND_PLACES[number], kind),
        _changed("background", words, BACKGROUND_PLACE, _another(rng, BACKGROUNDS, words, -2)),
    ]
    return texts + list(_misplaced(scene))


def _another(rng: Random, names: tuple[str, ...], present: list[str], number: int) -> str:
    """Another name than the one there; often that of the other shape, the likeliest to mislead."""
    right = present[number]
    others = [name for name in present if name in names and name != right]
    if others and rng.random() < 0.3:
        return rng.choice(others)
    return rng.choice([name for name in names if name != right])


def _changed(kind: str, words: list[str], place: int, word: str) -> Text:
    place %= len(words)
    return Text(kind, " ".join(substitute(words, place, word)), False, place)


def _misplaced(scene: Scene) -> Iterator[Text]:
    """The other relation; and the right one with its sides swapped, if they differ at all."""
    if scene.relation is None:
        return
    told = scene.caption()
    other = told.replace(scene.relation, OPPOSITE[scene.relation])
    yield Text("relation", other, False, RELATION_PLACE)
    swapped = replace(scene, shapes=scene.shapes[::-1]).caption()
    if swapped != told:
        # Which of "left" and the four names is wrong? The relation is what does not hold.
        yield Text("sides", swapped, False, RELATION_PLACE)


def confusions(rng: Random, scene: Scene) -> list[Text]:
    """Captions that are wrong in more than one thing."""
    texts = [Text("other scene", random_scene(rng).caption(), False)]
    colors, kinds = ([getattr(s, name) for s in scene.shapes] for name in ("color", "kind"))
    if len(set(colors)) == len(set(kinds)) == 2:
        first, second = scene.shapes
        crossed = replace(first, color=second.color), replace(second, color=first.color)
        texts.append(Text("colors crossed", replace(scene, shapes=crossed).caption(), False))
    if len(scene.shapes) == 1:
        texts.append(Text("one too many", _with_another(rng, scene), False))
    return [text for text in texts if text.text != scene.caption()]


def _with_another(rng: Random, scene: Scene) -> str:
    """The caption of this single shape beside or above, or below, one that is not there."""
    shapes = [scene.shapes[0], random_scene(rng, 1).shapes[0]]
    rng.shuffle(shapes)
    relation = rng.choice(list(OPPOSITE))
    named = f" {relation} ".join(indefinite(shape.name) for shape in shapes)
    return f"{named} on {indefinite(scene.background)} background"


def phrases(rng: Random, scene: Scene) -> list[Text]:
    """`a red circle`: one that is there, and one that is not. A part of the truth is true."""
    asked = [question for question in scene.questions() if question.question.startswith("is there")]
    rng.shuffle(asked)
    # Of each kind one, so that the pair exchanged is not lost among all that is absent.
    by_kind = {question.kind: question for question in asked}
    absent = [question for kind, question in by_kind.items() if kind != "present"]
    return [
        Text("phrase", _named(by_kind["present"].question), True),
        Text("false phrase", _named(rng.choice(absent).question), False),
    ]


def _named(question: str) -> str:
    return question.removeprefix("is there ").removesuffix("?")
