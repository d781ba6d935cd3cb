"""The captioner's training schedule: the material of each step, and its learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from demo.scenes import CLEAR_RATIO


class Plan(NamedTuple):
    """The material of a step."""

    pictures: int
    questions: int  #: of each picture, at most
    two_shapes: float  #: share of scenes with two shapes
    min_radius: float = 0.0  #: of every shape
    max_slope: float = CLEAR_RATIO  #: of the line between two shapes, by the nearer axis
    both_sides: bool = False  #: ask what is left and what is on top of every pair
    relation_weight: float = 1.0  #: of a caption's "left" or "above" among the tokens
    places_weight: float = 0.0  #: of telling the shapes' coordinates from the image tokens
    lookups: int = 0  #: further questions for the color of a kind, or the kind of a color
    dialogues: float = 0.0  #: share of pictures whose questions come in dialogues


#: Pairs of shapes, the questions of every second picture in dialogues.
DIALOGUES = Plan(64, 3, 0.8, both_sides=True, relation_weight=3.0, places_weight=0.3, dialogues=0.5)
LAST = DIALOGUES._replace(lookups=2, dialogues=0.6)

#: The plans and the step at which each ends.
PHASES = (
    (350, Plan(32, 3, 0.0, min_radius=0.18, places_weight=0.3)),
    (500, Plan(64, 3, 0.0, places_weight=0.3)),
    (750, Plan(64, 3, 0.0, min_radius=0.18, places_weight=0.3)),
    (1000, Plan(64, 3, 0.0, places_weight=0.3)),
    (1700, DIALOGUES._replace(dialogues=0.0)),
    (2500, DIALOGUES),
    (3500, LAST),
)
STEPS = PHASES[-1][0]

#: Steps and the shares of the peak learning rate there; between them the rate is linear.
RATES = ((0, 0.005), (199, 1.0), (2300, 1.0), (2500, 5 / 7), (2800, 5 / 7), (STEPS, 0.0))


def plans(steps: int) -> list[Plan]:
    """Return the plan of each step; the last phase goes on to the end."""
    planned: list[Plan] = []
    for end, plan in PHASES:
        planned += [plan] * (end - len(planned))
    return (planned + [LAST] * (steps - len(planned)))[:steps]


def rate(step: int, rates: Sequence[tuple[int, float]]) -> float:
    """Return the share of the peak learning rate at this step."""
    steps, shares = zip(*rates, strict=True)
    return float(np.interp(step, steps, shares))
