"""The demo's world: drawn scenes, and every true caption and answer about them.

A scene is one or two filled shapes on a plain background. It lives in the unit
square (x to the right, y downwards), so it can be drawn at any size. What the
captions, questions and answers say is fixed here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw

from demo.articles import indefinite
from demo.degrading import degrade
from demo.palette import BACKGROUND_COLORS, RGB, SHAPE_COLORS, shade, visible_shade

KINDS = ("circle", "square", "triangle", "star")
COLORS = tuple(SHAPE_COLORS)
BACKGROUNDS = tuple(BACKGROUND_COLORS)
NUMBERS = {1: "one", 2: "two"}

#: Radii as a share of the picture's short side, for scenes of one and of two shapes.
RADII = {1: (0.09, 0.42), 2: (0.09, 0.24)}

#: Least half-extent of a shape, as a share of either side and in pixels: below it a
#: star and a circle look alike once the processor has squashed the picture to 64x64.
LEAST_SHARE, LEAST_PIXELS = 0.07, 6.0

#: A relation is clear when the other axis' offset is at most this share of its own.
CLEAR_RATIO = 0.6

Point = tuple[float, float]
#: x, y and radius.
Circle = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """A filled shape. `radius` is that of the circle around it, by the short side."""

    kind: str
    color: str
    x: float
    y: float
    radius: float
    rotation: float = 0.0  #: degrees
    pinch: float = 0.382  #: a star's inner radius by its outer one; 0.382 is the pentagram's
    slant: float = 0.866  #: a triangle's height by its base; 0.866 is the equilateral one
    rgb: RGB | None = None  #: None: the plainest hue of the color

    @property
    def name(self) -> str:
        """Return the color and the kind."""
        return f"{self.color} {self.kind}"

    @property
    def fill(self) -> RGB:
        """Return the color to draw it in."""
        return self.rgb or SHAPE_COLORS[self.color][0]


class Question(NamedTuple):
    """A question and its answer. Those of a `kind` are equally hard."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Scene:
    """A background with one or two shapes; of two, the left or the upper one comes first."""

    background: str
    shapes: tuple[Shape, ...]
    rgb: RGB | None = None  #: None: the plainest hue of the background

    @property
    def fill(self) -> RGB:
        """Return the color to draw the background in."""
        return self.rgb or BACKGROUND_COLORS[self.background][0]

    @property
    def relation(self) -> str | None:
        """Return 'left of' or 'above', by the axis that dominates; None for a single shape."""
        if len(self.shapes) == 1:
            return None
        first, second = self.shapes
        return "left of" if abs(second.x - first.x) > abs(second.y - first.y) else "above"

    def caption(self) -> str:
        """Name the shapes, their relation and the background."""
        shapes = f" {self.relation} ".join(indefinite(shape.name) for shape in self.shapes)
        return f"{shapes} on {indefinite(self.background)} background"

    def questions(self) -> list[Question]:
        """Return every question that has exactly one true answer."""
        return [*self._overall(), *self._by_shape(), *self._presence()]

    def _overall(self) -> Iterator[Question]:
        yield Question("count", "how many shapes are there?", NUMBERS[len(self.shapes)])
        yield Question("background", "what color is the background?", self.background)
        name = indefinite(self.shapes[0].name)
        if self.relation is None:
            yield Question("shape", "what shape is it?", self.shapes[0].kind)
        elif self.relation == "left of":
            yield Question("left", "what is on the left?", name)
        else:
            yield Question("top", "what is on top?", name)

    def _by_shape(self) -> Iterator[Question]:
        """Yield questions whose kind, or color, points at a single shape."""
        kinds = [shape.kind for shape in self.shapes]
        colors = [shape.color for shape in self.shapes]
        for kind, color in zip(kinds, colors, strict=True):
            if kinds.count(kind) == 1:
                yield Question("color", f"what color is the {kind}?", color)
            if colors.count(color) == 1:
                yield Question("shape of color", f"what shape is {color}?", kind)

    def _presence(self) -> Iterator[Question]:
        """Yield a question for each color and kind; "no" is hardest for an exchanged pair."""
        present = {(shape.color, shape.kind) for shape in self.shapes}
        colors = {color for color, _ in present}
        kinds = {kind for _, kind in present}
        for color in COLORS:
            for kind in KINDS:
                question = f"is there {indefinite(f'{color} {kind}')}?"
                if (color, kind) in present:
                    yield Question("present", question, "yes")
                elif color in colors and kind in kinds:
                    yield Question("exchanged", question, "no")
                elif color in colors or kind in kinds:
                    yield Question("one differs", question, "no")
                else:
                    yield Question("both differ", question, "no")


def random_scene(rng: Random, shapes: int | None = None) -> Scene:
    """Draw a scene at random; without a number of shapes, one and two are equally likely."""
    count = shapes or rng.choice((1, 2))
    background = rng.choice(BACKGROUNDS)
    rgb = shade(rng, BACKGROUND_COLORS[background])
    placed = tuple(_random_shape(rng, circle, rgb) for circle in _random_circles(rng, count))
    return Scene(background, placed, rgb)


def _random_shape(rng: Random, circle: Circle, background: RGB) -> Shape:
    color = rng.choice(COLORS)
    return Shape(
        rng.choice(KINDS),
        color,
        *circle,
        rotation=rng.choice((0.0, rng.uniform(-12, 12))),
        pinch=rng.uniform(0.38, 0.5),
        slant=rng.uniform(0.75, 1.15),
        rgb=visible_shade(rng, SHAPE_COLORS[color], background),
    )


def _random_circles(rng: Random, count: int) -> list[Circle]:
    """Draw (x, y, radius) of shapes that lie inside, apart, and clearly beside or above."""
    while True:
        # Evenly by the logarithm: small shapes are the hard ones, so they are not rare.
        low, high = (math.log(radius) for radius in RADII[count])
        radii = [math.exp(rng.uniform(low, high)) for _ in range(count)]
        circles = [(rng.uniform(r, 1 - r), rng.uniform(r, 1 - r), r) for r in radii]
        if count == 1:
            return circles
        (x1, y1, r1), (x2, y2, r2) = circles
        minor, major = sorted((abs(x2 - x1), abs(y2 - y1)))
        if minor <= CLEAR_RATIO * major and math.hypot(minor, major) >= r1 + r2 + 0.02:
            axis = 0 if abs(x2 - x1) == major else 1
            return sorted(circles, key=itemgetter(axis))


def is_clear(scene: Scene, width: int, height: int) -> bool:
    """Test that the picture shows its shapes and their relation plainly at this size."""
    short, long = sorted((width, height))
    radius = min(shape.radius for shape in scene.shapes) * short
    if radius < LEAST_PIXELS or radius < LEAST_SHARE * long:
        return False
    if scene.relation is None:
        return True
    first, second = scene.shapes
    across, down = abs(second.x - first.x) * width, abs(second.y - first.y) * height
    major, minor = (across, down) if scene.relation == "left of" else (down, across)
    return minor <= 0.8 * major


def random_size(
    rng: Random, scene: Scene, smallest: int = 48, largest: int = 2048
) -> tuple[int, int]:
    """Draw a width and a height, at most 2:1, at which the scene is clear."""
    for _ in range(64):
        side = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        stretch = math.exp(rng.gauss(0, 0.3) / 2)
        width, height = round(side * stretch), round(side / stretch)
        short, long = sorted((width, height))
        fits = smallest <= short and long <= min(largest, 2 * short)
        if fits and is_clear(scene, width, height):
            return width, height
    return max(smallest, 96), max(smallest, 96)


def draw(scene: Scene, width: int, height: int, *, antialias: bool = True) -> Image.Image:
    """Draw the scene as an RGB picture."""
    # Drawn larger and averaged down: Pillow itself draws hard edges only.
    scale = (4 if max(width, height) <= 512 else 2) if antialias else 1
    canvas = Image.new("RGB", (width * scale, height * scale), scene.fill)
    pen = ImageDraw.Draw(canvas)
    for shape in scene.shapes:
        radius = shape.radius * min(canvas.size)
        x, y = shape.x * canvas.width, shape.y * canvas.height
        if shape.kind == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.fill)
        else:
            points = [(x + radius * dx, y + radius * dy) for dx, dy in outline(shape)]
            pen.polygon(points, fill=shape.fill)
    return canvas.reduce(scale)


def outline(shape: Shape) -> list[Point]:
    """Return a polygon's corners around its centre, the farthest at distance 1."""
    if shape.kind == "square":
        corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    elif shape.kind == "triangle":
        corners = [(0.0, -shape.slant), (1.0, shape.slant), (-1.0, shape.slant)]
    else:
        spokes = [(k * math.pi / 5, 1.0 if k % 2 == 0 else shape.pinch) for k in range(10)]
        corners = [(math.sin(angle) * r, -math.cos(angle) * r) for angle, r in spokes]
    farthest = max(math.hypot(x, y) for x, y in corners)
    turn = math.radians(shape.rotation)
    cos, sin = math.cos(turn) / farthest, math.sin(turn) / farthest
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in corners]


def random_picture(rng: Random, scene: Scene, largest: int = 2048) -> Image.Image:
    """Draw the scene as a user may send it: at some size, smooth or not, degraded or not."""
    width, height = random_size(rng, scene, largest=largest)
    return degrade(draw(scene, width, height, antialias=rng.random() < 0.7), rng)
