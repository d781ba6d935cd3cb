"""Error messages of the page."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

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


def remarks_for_operators() -> Iterator[str]:
    """Yield every text in the code that names a setting, with words for each expression."""
    root = Path(__file__).parents[2]
    for path in sorted([*root.glob("worker/**/*.py"), *root.glob("producer/**/*.py")]):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        formatted = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        parts = {part for node in formatted for part in node.values}
        constants = [node for node in nodes if isinstance(node, ast.Constant)]
        texts = [str(node.value) for node in constants if node not in parts]
        texts += ["".join(map(_text, node.values)) for node in formatted]
        yield from (text for text in texts if "BLIPLINE_" in text)


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "a value"


def test_a_visitor_reads_no_name_of_a_setting() -> None:
    remarks = set(remarks_for_operators())
    assert len(remarks) > 10
    for remark in remarks:
        message = as_sentence(remark)
        assert "BLIPLINE_" not in message
        assert len(message) > 5


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("the queue has 5 items (BLIPLINE_MAX): try later", "The queue has 5 items: try later."),
        ("more than 9 pixels: raise BLIPLINE_MAX_PIXELS", "More than 9 pixels."),
        ("reads no files; BLIPLINE_ROOT sets them; ask", "Reads no files; ask."),
        ("BLIPLINE_ROOT is unset", "The settings of this service do not allow it."),
    ],
)
def test_the_rest_of_a_message_stays(message: str, sentence: str) -> None:
    assert as_sentence(message) == sentence
