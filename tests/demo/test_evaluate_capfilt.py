"""The made pairs of the evaluation of CapFilt."""

from __future__ import annotations

from collections import Counter
from random import Random

from demo.evaluate_capfilt import KINDS, MadePair, is_true, made_pairs, table
from demo.scenes import random_scene


def test_two_in_five_texts_are_wrong_each_kind_equally_often() -> None:
    pairs = list(made_pairs(50, seed=3))
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds == {"right": 30, **dict.fromkeys(KINDS, 4)}
    assert [pair.kind for pair in pairs] != sorted(pair.kind for pair in pairs)
    for pair in pairs:
        assert is_true(pair.text, pair.caption) is (pair.kind == "right"), pair[1:]
    assert [pair.text for pair in made_pairs(50, seed=3)] == [pair.text for pair in pairs]


def test_the_converse_of_a_caption_is_true() -> None:
    inverse = {"left of": "right of", "above": "below"}
    for seed in range(20):
        scene = random_scene(Random(seed), 2)
        assert scene.relation is not None
        first, second = scene.caption().split(" on ", 1)
        before, after = first.split(f" {scene.relation} ")
        assert is_true(f"{after} {inverse[scene.relation]} {before} on {second}", scene.caption())
        if before != after:
            assert not is_true(f"{after} {scene.relation} {before} on {second}", scene.caption())


def test_a_synthetic_caption_that_equals_the_web_text_is_as_right_as_this() -> None:
    made = [MadePair(b"", "a", "a", "right"), MadePair(b"", "b", "c", "color")]
    made += [MadePair(b"", f"x{n}", "y", kind) for n, kind in enumerate(KINDS[1:])]

    def line(number: int, source: str, text: str) -> dict[str, str]:
        return {"custom_id": str(number), "source": source, "text": text}

    accepted = [line(0, "web", "a"), line(1, "synthetic", "b")]
    rejected = [line(1, "web", "c"), *(line(n, "web", "y") for n in range(2, 6))]
    rejected += [line(n, "synthetic", "wrong") for n in range(2, 6)]
    text = table(made, accepted, rejected)
    assert "| right | 1 | 1 | 100.0% |" in text
    assert "| color | 1 | 0 | 100.0% |" in text
    assert "| generated | 6 | 33.3% |" in text
    assert "| accepted by the filter | 2 | 100.0% |" in text
