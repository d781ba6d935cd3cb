"""What each step of the training trains on, and how fast."""

from __future__ import annotations

from typing import NamedTuple

from demo.scenes import CLEAR_RATIO


class Plan(NamedTuple):
    """What a step trains on."""

    pictures: int
    questions: int  #: of each picture, at most
    two_shapes: float  #: share of scenes with two shapes
    least_radius: float = 0.0  #: of every shape
    most_slope: float = CLEAR_RATIO  #: of the line between two shapes, by the nearer axis
    both_sides: bool = False  #: ask what is left and what is on top of every pair
    relation_weight: float = 1.0  #: of a caption's "left" or "above" among the tokens
    places_weight: float = 0.0  #: of telling the shapes' coordinates from the image tokens


#: The plans and the step at which each ends. What a star is, is learned sooner from large
#: shapes and without a second one about. At step 2000 all was learned but how two shapes
#: lie: to order them, x + y is enough, and a caption's "left" or "above" is one token of
#: twenty, so x and y were never told apart. The next three phases, tried one after another,
#: did not change that; coordinates as a target of their own did, within some 400 steps. The
#: phases stay because the weights went through them.
PHASES = (
    (600, Plan(32, 3, 0.0, least_radius=0.18)),
    (900, Plan(64, 4, 0.0)),
    (2000, Plan(64, 5, 0.75)),
    (2250, Plan(64, 4, 0.85, relation_weight=6.0)),
    (2500, Plan(64, 2, 1.0, most_slope=0.2, relation_weight=6.0)),
    (2750, Plan(64, 2, 0.9, both_sides=True, relation_weight=3.0)),
    (3800, Plan(64, 2, 0.9, both_sides=True, relation_weight=3.0, places_weight=0.3)),
)
STEPS = PHASES[-1][0]

#: The learning rate rises, stays, and falls to zero. These lengths do not depend on the
#: whole's, so a run under way may still be made longer.
WARMUP_STEPS, COOLDOWN_STEPS = 200, 500


def plans(steps: int) -> list[Plan]:
    """One for each step; the last phase goes on for as long as is asked."""
    every: list[Plan] = []
    for end, plan in PHASES:
        every += [plan] * (end - len(every))
    return (every + [every[-1]] * (steps - len(every)))[:steps]


def rate(step: int, steps: int) -> float:
    """The share of the peak learning rate at this step."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / COOLDOWN_STEPS)
