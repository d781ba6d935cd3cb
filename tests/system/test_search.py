"""A search index through the whole system, with the demo's retrieval model."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from demo.scenes import Scene, draw, random_scene
from producer import Client


def test_scenes_are_found_by_their_captions_and_captions_by_their_scenes(
    user: Client, tmp_path: Path
) -> None:
    rng = Random(29)
    scenes: dict[str, Scene] = {}
    while len(scenes) < 12:
        scene = random_scene(rng)
        scenes.setdefault(scene.caption(), scene)
    files = {}
    for number, (caption, scene) in enumerate(scenes.items()):
        files[caption] = tmp_path / f"{number}.png"
        draw(scene, 160, 160).save(files[caption])
    texts = tmp_path / "captions.jsonl"
    texts.write_text("".join(json.dumps({"text": caption}) + "\n" for caption in scenes))

    index = user.index(tmp_path / "index")
    counts = index.update(tmp_path, texts)
    assert (counts.embedded, counts.failed) == (24, 0)
    assert index.update().unchanged == 24
    (revision,) = index.facts().revisions
    assert len(revision) == 12

    images = {caption: index.search(caption, rerank=4)[0] for caption in scenes}
    right = sum(hit.path == files[caption] for caption, hit in images.items())
    assert right >= 11
    assert all((hit.probability or 0) > 0.5 for hit in images.values())
    found_texts = [
        index.search(image=path, find="text", rerank=4)[0].value for path in files.values()
    ]
    assert sum(text == caption for text, caption in zip(found_texts, files, strict=True)) >= 11
    # Half precision is all that the stored vectors lose.
    (itself, *_) = index.search(image=files[next(iter(files))])
    assert itself.cosine > 0.999
