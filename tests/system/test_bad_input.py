"""Bad input: each kind gets its error code or the right result, and harms no neighbour."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from producer import Client, JobFailed
from tests.system import reference
from tests.system.conftest import Stack

PICTURE = reference.scene_picture()


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def bomb() -> bytes:
    return encoded(Image.new("1", (20_000, 20_000)))


def animation() -> bytes:
    second = Image.new("RGB", PICTURE.size, "blue")
    frames = [PICTURE.quantize(64).convert("RGB"), second]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated() -> bytes:
    """Return the picture stored rotated, with the matching EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PICTURE.transpose(Image.Transpose.ROTATE_90), exif=exif)


def sixteen_bits() -> bytes:
    grey = np.asarray(PICTURE.convert("L"), dtype=np.uint16) * 257
    return encoded(Image.frombytes("I;16", PICTURE.size, grey.tobytes()))


def transparent() -> bytes:
    """Return a palette image whose colour 0 is transparent."""
    return encoded(PICTURE.quantize(16), transparency=0)


def as_processed(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"words in a file called cat.jpg", "image_invalid", "not an image"),
        (encoded(PICTURE, "JPEG")[:900], "image_invalid", "cannot be decoded"),
        (bomb(), "image_too_large", "20000 x 20000"),
    ],
    ids=["text", "truncated", "bomb"],
)
def test_an_unusable_image_fails_with_its_code(
    user: Client, data: bytes, code: str, message: str
) -> None:
    with pytest.raises(JobFailed, match=message) as raised:
        user.caption(data).result(timeout=60)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (animation(), PICTURE.quantize(64).convert("RGB")),
        (encoded(PICTURE.convert("CMYK"), "JPEG"), None),
        (transparent(), None),
        (encoded(PICTURE.convert("RGBA")), PICTURE),
        (rotated(), PICTURE),
        (sixteen_bits(), PICTURE.convert("L")),
    ],
    ids=["animation", "cmyk", "transparent", "rgba", "exif-rotation", "16-bit"],
)
def test_an_unusual_image_is_seen_as_the_processor_sees_it(
    user: Client, data: bytes, seen: Image.Image | None
) -> None:
    expected = reference.caption(seen or as_processed(data))
    assert user.caption(data).result(timeout=60) == expected


@pytest.mark.parametrize("words", [600, 10_000])
def test_a_question_beyond_the_models_length_is_rejected(user: Client, words: int) -> None:
    with pytest.raises(JobFailed) as raised:
        user.ask(PICTURE, "why " * words).result(timeout=60)
    assert raised.value.code == "prompt_too_long"


def test_bad_items_leave_their_neighbours_alone(user: Client, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    good = {"image": encoded(PICTURE), "custom_id": "good"}
    bad: list[dict[str, Any]] = [
        {"image": str(tmp_path / "missing.png")},
        {"image": str(tmp_path / "empty.png")},
        {"image": str(tmp_path / "text.jpg")},
        {"image": bomb()},
        {"image": encoded(PICTURE, "JPEG")[:900]},
        {"image": encoded(PICTURE), "task": "vqa", "question": ""},
        {"image": encoded(PICTURE), "task": "vqa", "question": "why " * 10_000},
        {"image": encoded(PICTURE), "colour": "red"},
        {"image": "ftp://example.com/x.png"},
        {"image": "http://127.0.0.1:1/x.png"},
    ]
    items = [item for bad_item in bad for item in (good, bad_item)] + [good]
    results = list(user.submit_batch(items).results(timeout=60))
    assert {result.text for result in results[::2]} == {reference.caption(PICTURE)}
    assert [str(result.error.code) for result in results[1::2] if result.error] == [
        "image_unreachable",
        "image_invalid",
        "image_invalid",
        "image_too_large",
        "image_invalid",
        "option_invalid",
        "prompt_too_long",
        "option_invalid",
        "image_blocked",
        "image_blocked",
    ]


#: A program that uses Celery alone, without this project's code.
FOREIGN_PROGRAM = """
import json, sys
from celery import Celery
redis_url, task, messages = sys.argv[1:]
app = Celery("foreign", broker=redis_url, backend=redis_url)
results = [
    app.send_task(task, kwargs=kwargs, queue="interactive") for kwargs in json.loads(messages)
]
print(json.dumps([result.get(timeout=60) for result in results]))
"""

#: Arguments that are answered with an error of these codes.
INVALID: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no-list": {"items": "x"},
    "unknown-option": {"items": [{"image": "blob:0"}], "options": {"beams": 4}},
    "late": {"items": [{"image": "https://x/y"}], "options": {"deadline": 1}},
}
CODES = ("option_invalid", "deadline_exceeded")


def test_a_program_with_celery_alone_is_served_and_its_invalid_messages_are_answered(
    stack: Stack, user: Client, tmp_path: Path
) -> None:
    user.caption(PICTURE).result(timeout=60)  # uploads it
    blob = "blob:" + hashlib.sha256(encoded(PICTURE)).hexdigest()
    messages = [{"items": [{"image": blob}], "options": {}}, *INVALID.values()]
    command = [sys.executable, "-c", FOREIGN_PROGRAM, stack.redis_url, "blipline.caption"]
    done = subprocess.run(
        [*command, json.dumps(messages)], cwd=tmp_path, capture_output=True, check=True, timeout=90
    )
    valid, *invalid = json.loads(done.stdout)
    assert valid == [{"text": reference.caption(PICTURE)}]
    errors = {name: result["error"] for name, (result,) in zip(INVALID, invalid, strict=True)}
    assert all(error["code"] in CODES and error["message"] for error in errors.values()), errors
