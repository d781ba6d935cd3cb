"""Errors as the page says them."""

from __future__ import annotations

import gradio as gr
import pytest

from producer.errors import ConnectionFailed, InvalidInput, JobFailed, QueueFull
from producer.page.messages import capitalize, problem, shown_as_error

SECRET = "redis://:hunter2@10.0.0.1/0"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (QueueFull("bulk holds 10 items"), "There is no room in the queue now: try again later."),
        (ConnectionFailed(SECRET), "The queue cannot be reached now: try again later."),
        (JobFailed("image_invalid", "not an image"), "Not an image."),
        (InvalidInput("num_beams=99: too many"), "Beams = 99: too many."),
        (InvalidInput("Is it so?"), "Is it so?"),
        (JobFailed("image_blocked", "https://a.b/c is not"), "https://a.b/c is not."),
    ],
)
def test_an_error_is_a_sentence(error: Exception, said: str) -> None:
    with pytest.raises(gr.Error) as raised, shown_as_error():
        raise error
    assert raised.value.message == said
    assert not raised.value.print_exception


def test_what_nobody_expected_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(gr.Error) as raised, shown_as_error():
        raise RuntimeError(SECRET)
    assert "hunter2" not in raised.value.message
    assert "log" in raised.value.message
    assert "unexpected error" in caplog.text


def test_a_message_is_text_and_never_a_tag() -> None:
    assert problem("<img src=x>").message == "&lt;img src=x&gt;"
    assert capitalize(InvalidInput("<b>")) == "<b>."
