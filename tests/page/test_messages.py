"""Error messages of the page."""

from __future__ import annotations

import gradio as gr
import pytest

from producer.errors import ConnectionFailed, InvalidInput, JobFailed, QueueFull
from producer.page.messages import as_sentence, errors_on_page, message_of, page_error

SECRET = "redis://:hunter2@10.0.0.1/0"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (QueueFull("bulk holds 10 items"), "The queue is full: try again later."),
        (ConnectionFailed(SECRET), "The queue is unavailable: try again later."),
        (JobFailed("image_invalid", "not an image"), "Not an image."),
        (InvalidInput("num_beams=99: too many"), "Beams = 99: too many."),
        (InvalidInput("top_k=-1: too few"), "Top k = -1: too few."),
        (InvalidInput("Is it so?"), "Is it so?"),
        (JobFailed("image_blocked", "https://a.b/c is not"), "https://a.b/c is not."),
    ],
)
def test_an_error_is_a_sentence(error: Exception, message: str) -> None:
    with pytest.raises(gr.Error) as raised, errors_on_page():
        raise error
    assert raised.value.message == message
    assert not raised.value.print_exception


def test_an_unexpected_error_reveals_no_internals(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(gr.Error) as raised, errors_on_page():
        raise RuntimeError(SECRET)
    assert "hunter2" not in raised.value.message
    assert "log" in raised.value.message
    assert "unexpected error" in caplog.text


def test_a_message_is_text_and_never_a_tag() -> None:
    assert page_error("<img src=x>").message == "&lt;img src=x&gt;"
    assert message_of(InvalidInput("<b>")) == "<b>."


def test_a_message_names_no_setting() -> None:
    blocked = "10.0.0.1: a private address (BLIPLINE_FETCH_ALLOW, _DENY, _ONLY)"
    assert as_sentence(blocked) == "10.0.0.1: a private address."
    assert as_sentence("no image (two of them)") == "No image (two of them)."
