"""The captioner's training schedule: the material of each step, and its learning rate."""

from __future__ import annotations

from typing import NamedTuple

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
    dialogues: float = 0.0  #: share of pictures whose questions come in dialogues


#: The plan of the last phase.
LAST = Plan(64, 3, 0.8, both_sides=True, relation_weight=3.0, places_weight=0.3, dialogues=0.5)

#: The plans and the step at which each ends.
PHASES = (
    (350, Plan(32, 3, 0.0, min_radius=0.18, places_weight=0.3)),
    (500, Plan(64, 3, 0.0, places_weight=0.3)),
    (750, Plan(64, 3, 0.0, min_radius=0.18, places_weight=0.3)),
    (1000, Plan(64, 3, 0.0, places_weight=0.3)),
    (1700, Plan(64, 3, 0.8, both_sides=True, relation_weight=3.0, places_weight=0.3)),
    (3000, LAST),
)
STEPS = PHASES[-1][0]

#: The learning rate rises, stays, and falls to zero. These lengths do not depend on the
#: whole's, so a run under way may still be made longer.
WARMUP_STEPS, COOLDOWN_STEPS = 200, 700


def plans(steps: int) -> list[Plan]:
    """Return the plan of each step; the last phase goes on to the end."""
    planned: list[Plan] = []
    for end, plan in PHASES:
        planned += [plan] * (end - len(planned))
    return (planned + [LAST] * (steps - len(planned)))[:steps]


def rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at this step."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / COOLDOWN_STEPS)
