"""The demo's world: what is said of a scene agrees with what is drawn."""

from __future__ import annotations

import re
from random import Random

import pytest
from PIL import Image

from demo.articles import indefinite, substitute
from demo.degrading import degrade
from demo.palette import contrast
from demo.scenes import (
    BACKGROUNDS,
    COLORS,
    KINDS,
    Scene,
    Shape,
    draw,
    is_clear,
    outline,
    random_picture,
    random_scene,
)

SEEDS = range(200)
SHAPE = f"(an?) ({'|'.join(COLORS)}) ({'|'.join(KINDS)})"
CAPTION = re.compile(
    f"{SHAPE}( (left of|above) {SHAPE})? on a ({'|'.join(BACKGROUNDS)}) background"
)


def answers(scene: Scene) -> dict[str, str]:
    return {question: answer for _, question, answer in scene.questions()}


def pair(first: Shape, second: Shape) -> Scene:
    return Scene("grey", (first, second))


RED_CIRCLE = Shape("circle", "red", 0.25, 0.5, 0.15)
BLUE_SQUARE = Shape("square", "blue", 0.75, 0.55, 0.15)


def test_the_article_agrees_with_the_word_after_it() -> None:
    assert indefinite("orange star") == "an orange star"
    assert indefinite("red circle") == "a red circle"
    assert substitute(["an", "orange", "star"], 1, "blue") == ["a", "blue", "star"]
    assert substitute(["a", "red", "star"], 1, "orange") == ["an", "orange", "star"]
    assert substitute(["a", "red", "star"], 2, "circle") == ["a", "red", "circle"]
    assert substitute(["red", "star"], 0, "orange") == ["orange", "star"]


def test_an_orange_shape_has_its_article_everywhere() -> None:
    star = Shape("star", "orange", 0.25, 0.5, 0.15)
    scene = pair(star, BLUE_SQUARE)
    assert scene.caption() == "an orange star left of a blue square on a grey background"
    replies = answers(scene)
    assert replies["what is on the left?"] == "an orange star"
    assert replies["is there an orange star?"] == "yes"
    assert replies["is there an orange square?"] == "no"


def test_a_single_shape_is_captioned_by_its_color_kind_and_background() -> None:
    scene = Scene("grey", (RED_CIRCLE,))
    assert scene.caption() == "a red circle on a grey background"


def test_two_shapes_are_captioned_by_the_axis_on_which_they_lie_apart() -> None:
    star, triangle = (
        Shape("star", "green", 0.5, 0.2, 0.1),
        Shape("triangle", "white", 0.6, 0.8, 0.1),
    )
    beside = Scene("pink", (RED_CIRCLE, BLUE_SQUARE))
    stacked = Scene("brown", (star, triangle))
    assert beside.caption() == "a red circle left of a blue square on a pink background"
    assert stacked.caption() == "a green star above a white triangle on a brown background"


def test_a_single_shape_is_asked_about_without_its_place() -> None:
    replies = answers(Scene("grey", (RED_CIRCLE,)))
    assert replies["how many shapes are there?"] == "one"
    assert replies["what color is the background?"] == "grey"
    assert replies["what shape is it?"] == "circle"
    assert replies["what color is the circle?"] == "red"
    assert replies["what shape is red?"] == "circle"
    assert "what is on the left?" not in replies
    assert "what is on top?" not in replies


def test_two_shapes_beside_each_other_have_a_left_but_no_top() -> None:
    replies = answers(pair(RED_CIRCLE, BLUE_SQUARE))
    assert replies["how many shapes are there?"] == "two"
    assert replies["what is on the left?"] == "a red circle"
    assert "what is on top?" not in replies
    assert "what shape is it?" not in replies


def test_presence_is_asked_of_every_color_and_kind() -> None:
    replies = answers(pair(RED_CIRCLE, BLUE_SQUARE))
    presence = {
        question: replies[question] for question in replies if question.startswith("is there")
    }
    yes = {question for question, answer in presence.items() if answer == "yes"}
    assert len(presence) == len(COLORS) * len(KINDS)
    assert yes == {"is there a red circle?", "is there a blue square?"}


def test_the_exchanged_pair_is_a_kind_of_its_own() -> None:
    questions = pair(RED_CIRCLE, BLUE_SQUARE).questions()
    exchanged = {question for kind, question, _ in questions if kind == "exchanged"}
    assert exchanged == {"is there a red square?", "is there a blue circle?"}


def test_what_two_shapes_share_is_not_asked_for() -> None:
    circles = answers(pair(RED_CIRCLE, Shape("circle", "blue", 0.75, 0.5, 0.15)))
    reds = answers(pair(RED_CIRCLE, Shape("square", "red", 0.75, 0.5, 0.15)))
    assert "what color is the circle?" not in circles
    assert circles["what shape is blue?"] == "circle"
    assert "what shape is red?" not in reds
    assert reds["what color is the square?"] == "red"


@pytest.mark.parametrize("shapes", [1, 2])
def test_random_scenes_keep_to_the_phrases(shapes: int) -> None:
    for seed in SEEDS:
        scene = random_scene(Random(seed), shapes)
        questions = [question for _, question, _ in scene.questions()]
        assert CAPTION.fullmatch(scene.caption())
        for text in (scene.caption(), *questions):
            for article, word in re.findall(r"\b(an?) (\w+)", text):
                assert (article == "an") == (word == "orange")
        assert len(scene.shapes) == shapes
        assert len(set(questions)) == len(questions)


def test_random_shapes_lie_inside_and_apart() -> None:
    for seed in SEEDS:
        first, second = random_scene(Random(seed), 2).shapes
        assert all(s.radius <= min(s.x, s.y, 1 - s.x, 1 - s.y) + 1e-9 for s in (first, second))
        apart = ((first.x - second.x) ** 2 + (first.y - second.y) ** 2) ** 0.5
        assert apart > first.radius + second.radius


def test_a_seed_draws_the_same_picture_again() -> None:
    first, second = (
        random_picture(rng, random_scene(rng), largest=128) for rng in (Random(7), Random(7))
    )
    assert first.size == second.size
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(48, 48), (96, 64), (64, 128), (640, 480)])
def test_the_named_colors_are_where_the_scene_says(size: tuple[int, int], antialias: bool) -> None:
    for seed in range(40):
        scene = random_scene(Random(seed))
        picture = draw(scene, *size, antialias=antialias)
        assert picture.size == size
        assert picture.mode == "RGB"
        assert picture.getpixel((0, 0)) == scene.fill
        for shape in scene.shapes:
            middle = (int(shape.x * size[0]), int(shape.y * size[1]))
            assert picture.getpixel(middle) == shape.fill


def test_kinds_are_told_apart_by_how_much_they_fill() -> None:
    def share(kind: str) -> float:
        picture = draw(Scene("grey", (Shape(kind, "black", 0.5, 0.5, 0.4),)), 200, 200)
        box = picture.crop((20, 20, 180, 180)).convert("L")
        return sum(box.histogram()[:64]) / (160 * 160)

    circle, square, triangle, star = (share(kind) for kind in KINDS)
    assert circle > square > star > triangle > 0.2
    assert circle == pytest.approx(0.785, abs=0.01)
    assert square == pytest.approx(0.5, abs=0.01)


def test_outlines_reach_exactly_to_their_radius() -> None:
    for kind in ("square", "triangle", "star"):
        corners = outline(Shape(kind, "red", 0.5, 0.5, 0.2, rotation=9))
        assert max(x * x + y * y for x, y in corners) == pytest.approx(1)


def test_degrading_keeps_the_size_and_roughly_the_colors() -> None:
    picture = Image.new("RGB", (64, 48), (200, 40, 40))
    for seed in range(20):
        worse = degrade(picture, Random(seed))
        assert worse.size == picture.size
        pixel = worse.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert isinstance(pixel, tuple)
        assert contrast((int(pixel[0]), int(pixel[1]), int(pixel[2])), (200, 40, 40)) < 12


def test_a_tiny_or_ambiguous_scene_is_not_clear() -> None:
    small = Scene("grey", (Shape("star", "red", 0.5, 0.5, 0.09),))
    assert is_clear(small, 200, 200)
    assert not is_clear(small, 48, 48)
    diagonal = pair(Shape("star", "red", 0.2, 0.3, 0.15), Shape("star", "blue", 0.8, 0.6, 0.15))
    assert is_clear(diagonal, 100, 100)
    assert not is_clear(diagonal, 100, 200)
