"""The scenes of the evaluation of descriptions."""

from __future__ import annotations

from demo.evaluate_describe import held_out


def test_each_claim_has_as_many_scenes_as_requested() -> None:
    scenes = [scene for scene, _ in held_out(6, seed=1)]
    relations = [bool(scene.relation) for scene in scenes]
    assert relations.count(True) == 6
    # Those of all claims come first, and only scenes with a relation follow.
    assert relations[:6].count(True) < 6
    assert all(relations[6:])
