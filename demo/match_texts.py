"""The retrieval model's texts: the truth about a scene, and texts that are almost true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

from demo.articles import indefinite, substitute
from demo.scenes import BACKGROUNDS, COLORS, KINDS, Scene, random_scene

#: Indices of a caption's words, from its end (the first shape's: from its beginning).
COLOR_INDICES, KIND_INDICES, BACKGROUND_INDEX = (1, -6), (2, -5), -2
#: Index of the relation's first word.
RELATION_INDEX = 3

OPPOSITE = {"left of": "above", "above": "left of"}

#: The kinds of error: a single thing is wrong. The last two need two shapes.
ERRORS = ("color", "shape", "background", "relation", "sides")


class Text(NamedTuple):
    """A text about a scene, true or not."""

    kind: str  #: "caption", an entry of ERRORS, or another relation to the scene
    text: str
    true: bool
    wrong: int | None = None  #: index of the wrong word; None where no single word is wrong


def caption(scene: Scene) -> Text:
    """Return the caption of this scene."""
    return Text("caption", scene.caption(), True)


def errors(rng: Random, scene: Scene) -> list[Text]:
    """Make the caption wrong in a single thing: a text for each error that the scene admits."""
    words = scene.caption().split()
    colors = [shape.color for shape in scene.shapes]
    kinds = [shape.kind for shape in scene.shapes]
    number = rng.randrange(len(scene.shapes))
    color, kind = _alternative(rng, COLORS, colors, number), _alternative(rng, KINDS, kinds, number)
    texts = [
        _changed("color", words, COLOR_INDICES[number], color),
        _changed("shape", words, KIND_INDICES[number], kind),
        _changed("background", words, BACKGROUND_INDEX, _alternative(rng, BACKGROUNDS, words, -2)),
    ]
    return texts + list(_misplaced(scene))


def _alternative(rng: Random, names: tuple[str, ...], present: list[str], number: int) -> str:
    """Pick a different name; often that of the second shape, the likeliest to mislead."""
    current = present[number]
    misleading = [name for name in present if name in names and name != current]
    if misleading and rng.random() < 0.3:
        return rng.choice(misleading)
    return rng.choice([name for name in names if name != current])


def _changed(kind: str, words: list[str], index: int, word: str) -> Text:
    """Replace a word of the caption. An article that agrees with it is not itself wrong."""
    index %= len(words)
    return Text(kind, " ".join(substitute(words, index, word)), False, index)


def _misplaced(scene: Scene) -> Iterator[Text]:
    """Yield the opposite relation; and the true relation with its sides swapped, if they differ."""
    if scene.relation is None:
        return
    true = scene.caption()
    opposite = true.replace(scene.relation, OPPOSITE[scene.relation])
    yield Text("relation", opposite, False, RELATION_INDEX)
    swapped = replace(scene, shapes=scene.shapes[::-1]).caption()
    if swapped != true:
        # Which of "left" and the four names is wrong? The relation is what does not hold.
        yield Text("sides", swapped, False, RELATION_INDEX)


def confusions(rng: Random, scene: Scene) -> list[Text]:
    """Make captions that are wrong in several things."""
    texts = [Text("other scene", random_scene(rng).caption(), False)]
    colors, kinds = ([getattr(s, name) for s in scene.shapes] for name in ("color", "kind"))
    if len(set(colors)) == len(set(kinds)) == 2:
        first, second = scene.shapes
        crossed = replace(first, color=second.color), replace(second, color=first.color)
        texts.append(Text("colors crossed", replace(scene, shapes=crossed).caption(), False))
    if len(scene.shapes) == 1:
        texts.append(Text("one too many", _extended(rng, scene), False))
    return [text for text in texts if text.text != scene.caption()]


def _extended(rng: Random, scene: Scene) -> str:
    """Caption this single shape together with a shape that is not there."""
    shapes = [scene.shapes[0], random_scene(rng, 1).shapes[0]]
    rng.shuffle(shapes)
    relation = rng.choice(list(OPPOSITE))
    named = f" {relation} ".join(indefinite(shape.name) for shape in shapes)
    return f"{named} on {indefinite(scene.background)} background"


def phrases(rng: Random, scene: Scene) -> list[Text]:
    """Name a shape that is there, and a shape that is not. A part of the truth is true."""
    presence = [q for q in scene.questions() if q.question.startswith("is there")]
    rng.shuffle(presence)
    # A question of each kind, so that the exchanged pair is not lost among all that is absent.
    by_kind = {question.kind: question for question in presence}
    absent = [question for kind, question in by_kind.items() if kind != "present"]
    return [
        Text("phrase", _name_of(by_kind["present"].question), True),
        Text("false phrase", _name_of(rng.choice(absent).question), False),
    ]


def _name_of(question: str) -> str:
    return question.removeprefix("is there ").removesuffix("?")
