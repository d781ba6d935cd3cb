"""Draw the sample pictures and write the truth about them: `python -m demo.samples`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from demo.scenes import Scene, draw, is_clear, random_scene

IMAGES = Path(__file__).with_name("images")

#: Width, height and format of each sample.
SAMPLES = (
    (64, 64, "png"),
    (96, 96, "jpg"),
    (128, 128, "webp"),
    (160, 120, "png"),
    (120, 160, "jpg"),
    (224, 224, "webp"),
    (256, 256, "png"),
    (320, 240, "jpg"),
    (240, 320, "webp"),
    (384, 384, "jpg"),
    (400, 300, "png"),
    (480, 640, "jpg"),
    (640, 480, "jpg"),
    (640, 480, "webp"),
    (640, 360, "png"),
    (800, 600, "jpg"),
    (768, 1024, "webp"),
    (1024, 768, "jpg"),
)


def clear_scene(rng: Random, width: int, height: int, shapes: int) -> Scene:
    """Draw a scene that is plain to see at this size."""
    while True:
        scene = random_scene(rng, shapes)
        if is_clear(scene, width, height):
            return scene


def truth(scene: Scene) -> dict[str, Any]:
    """Return the caption and questions; of the many answered with no, the exchanged pairs."""
    questions = [
        {"question": question.question, "answer": question.answer}
        for question in scene.questions()
        if question.kind not in ("one differs", "both differ")
    ]
    return {"caption": scene.caption(), "questions": questions}


def main(seed: int = 0) -> None:
    """Write the pictures and truth.json."""
    IMAGES.mkdir(exist_ok=True)
    truths = {}
    for number, (width, height, suffix) in enumerate(SAMPLES, start=1):
        rng = Random(f"samples/{seed}/{number}")
        scene = clear_scene(rng, width, height, shapes=2 if number % 3 else 1)
        name = f"scene-{number:02}.{suffix}"
        draw(scene, width, height, antialias=number % 4 != 0).save(IMAGES / name, quality=85)
        truths[name] = truth(scene)
    (IMAGES / "truth.json").write_text(json.dumps(truths, indent=2) + "\n")
    print(f"{len(truths)} pictures in {IMAGES}", file=sys.stderr)


if __name__ == "__main__":
    main()
