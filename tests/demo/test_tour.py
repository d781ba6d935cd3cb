"""The tour of the demo: its pictures, its wrong captions and its wording."""

from __future__ import annotations

from PIL import Image

from demo.tour import pictures, recolored, wording
from producer import ErrorCode, ItemError, Result


def test_there_are_sample_pictures_to_show() -> None:
    assert pictures()
    for path in pictures():
        with Image.open(path) as image:
            image.verify()


def test_a_wrong_caption_names_a_color_that_is_not_there() -> None:
    assert recolored("an orange star above a purple circle on a pink background") == (
        "orange",
        "white",
        "a white star above a purple circle on a pink background",
    )
    assert recolored("a purple star") == ("purple", "orange", "an orange star")
    # After the last color comes the first.
    assert recolored("a black star above a red star") == (
        "black",
        "green",
        "a green star above a red star",
    )
    assert recolored("a star") is None


def test_a_result_is_worded_as_its_text_or_its_error() -> None:
    assert wording(Result(0, None, "two", None)) == "two"
    lost = ItemError(code=ErrorCode.INTERNAL, message="lost")
    assert wording(Result(0, None, None, lost)) == "internal: lost"
