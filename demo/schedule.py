"""What each step of the training trains on, and how fast."""

from __future__ import annotations

from typing import NamedTuple

from demo.scenes import CLEAR_RATIO


class Plan(NamedTuple):
    """The material of a step."""

    pictures: int
    questions: int  #: of each picture, at most
    two_shapes: float  #: share of scenes with two shapes
    least_radius: float = 0.0  #: of every shape
    most_slope: float = CLEAR_RATIO  #: of the line between two shapes, by the nearer axis
    both_sides: bool = False  #: ask what is left and what is on top of every pair
    relation_weight: float = 1.0  #: of a caption's "left" or "above" among the tokens
    places_weight: float = 0.0  #: of telling the shapes' coordinates from the image tokens
    dialogues: float = 0.0  #: share of pictures whose questions come in dialogues


#: The plans and the step at which each ends.
PHASES = (
    (350, Plan(32, 3, 0.0, least_radius=0.18, places_weight=0.3)),
    (600, Plan(64, 3, 0.0, places_weight=0.3)),
    (1300, Plan(64, 3, 0.8, both_sides=True, relation_weight=3.0, places_weight=0.3)),
    (2800, Plan(64, 3, 0.8, both_sides=True, relation_weight=3.0, places_weight=0.3, dialogues=0.5)),
)
STEPS = PHASES[-1][0]

#: The learning rate rises, stays, and falls to zero. These lengths do not depend on the
#: whole's, so a run under way may still be made longer.
WARMUP_STEPS, COOLDOWN_STEPS = 200, 700


def plans(steps: int) -> list[Plan]:
    """One for each step; the last phase goes on for as long as is asked."""
    every: list[Plan] = []
    for end, plan in PHASES:
        every += [plan] * (end - len(every))
    return (every + [every[-1]] * (steps - len(every)))[:steps]


def rate(step: int, steps: int) -> float:
    """The share of the peak learning rate at this step."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / COOLDOWN_STEPS)
