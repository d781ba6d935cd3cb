"""The page as Gradio builds it: what is where, and which button does what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import gradio as gr

from ..gateway.state import Gateway
from . import views
from .ask import NO_DIALOGUE, AskHandlers
from .batches import Batches
from .header import Queues
from .options import option_fields
from .pending import PendingAnswers

STYLE: Final = Path(__file__).with_name("style.css")
#: Seconds between two looks at the queues by an open page.
LOOK_S: Final = 5.0

_FONT: Final = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO: Final = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]
#: No fonts from elsewhere; the colors are those of style.css.
PALETTE: Final = gr.themes.Base(
    primary_hue="blue", neutral_hue="stone", font=_FONT, font_mono=_MONO, radius_size="lg"
)
#: The page is no interface for programs; the views themselves say what is waited for; and files
#: come as they were uploaded: nothing here decodes them.
_ASKED: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "preprocess": False,
}
#: Done in a moment, so it stands in no queue.
_QUIET: Final[dict[str, Any]] = {**_ASKED, "queue": False}


class ImageInputs(NamedTuple):
    """What is asked about: one picture, or several for a batch; style.css shows what the tab
    asks for."""

    picture: gr.Image
    url: gr.Textbox
    files: gr.File


def build(gateway: Gateway, places: PendingAnswers, delete_cache: tuple[int, int]) -> Any:
    """The page; `delete_cache`: how often Gradio looks for old files, and how old they may be."""
    queues = Queues(gateway)
    with gr.Blocks(
        title="Blipline", analytics_enabled=False, fill_width=True, delete_cache=delete_cache
    ) as blocks:
        # Sanitized, its link would open another tab. All that it shows is a name and numbers.
        head = _html(views.header("", None, can_leave=False), elem_id="head", sanitize_html=False)
        with gr.Row(elem_id="work"):
            with gr.Column(scale=5, min_width=320, elem_id="left"):
                pictures = _pictures()
                with gr.Column(elem_id="options"):
                    # No gr.Accordion: it builds its fields anew just after it was opened, and
                    # what was typed by then is gone.
                    _html("<details><summary>Options</summary></details>")
                    options = option_fields()
            with gr.Column(scale=7, min_width=320, elem_id="right"):
                _tabs(gateway, places, pictures, options)
        blocks.load(queues.header, None, head, **_QUIET)
        gr.Timer(LOOK_S).tick(queues.header, None, head, **_QUIET)
    return blocks


def _pictures() -> ImageInputs:
    with gr.Group(elem_id="one"):
        picture = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=["fullscreen"],
            label="Picture",
            show_label=False,
            placeholder="Drop a picture here, paste one, or choose a file",
            height=340,
            elem_id="picture",
        )
        url = gr.Textbox(
            placeholder="or the address of one: https://…",
            label="Address of a picture",
            show_label=False,
            max_lines=1,
            elem_id="url",
        )
    with gr.Group(elem_id="several"):
        files = gr.File(
            file_count="multiple",
            file_types=["image"],
            label="Pictures",
            height=340,
            elem_id="files",
        )
    return ImageInputs(picture, url, files)


def _tabs(
    gateway: Gateway, places: PendingAnswers, pictures: ImageInputs, options: Sequence[Any]
) -> None:
    questions = AskHandlers(gateway, places)
    asked: list[Any] = [pictures.picture, pictures.url]
    with gr.Tabs(elem_id="tabs"):
        _caption(questions, asked, options)
        _ask(questions, asked, options)
        _chat(questions, asked, options)
        _match(questions, asked)
        _batch(Batches(gateway), pictures.files, options)
    # Of an address that is typed, the last letter is what counts.
    changes = [field.change for field in asked]
    gr.on(changes, questions.turn, asked, None, trigger_mode="always_last", **_QUIET)


def _html(value: str = "", **named: Any) -> Any:
    return gr.Markdown(value, latex_delimiters=[], container=False, **named)


def _tab(name: str) -> Any:
    """Built with the page, or Gradio builds it after it was turned to, and what is typed at once
    is lost."""
    return gr.Tab(name, id=name.lower(), render_children=True)


def _caption(questions: AskHandlers, asked: list[Any], options: Sequence[Any]) -> None:
    with _tab("Caption"):
        prompt = gr.Textbox(label="It begins with (may be empty)", elem_id="prompt", max_lines=1)
        button = gr.Button("Caption", variant="primary", elem_id="do-caption")
        answer = _html(elem_id="caption-answer")
    _begin([button.click, prompt.submit], questions.caption, [*asked, prompt, *options], answer)


def _ask(questions: AskHandlers, asked: list[Any], options: Sequence[Any]) -> None:
    with _tab("Ask"):
        question = gr.Textbox(
            label="Question",
            placeholder="what color is the background?",
            elem_id="question",
            max_lines=1,
        )
        button = gr.Button("Ask", variant="primary", elem_id="do-ask")
        answer = _html(elem_id="ask-answer")
    _begin([button.click, question.submit], questions.ask, [*asked, question, *options], answer)


def _chat(questions: AskHandlers, asked: list[Any], options: Sequence[Any]) -> None:
    with _tab("Chat"):
        dialogue = gr.State(NO_DIALOGUE)
        shown = _html(views.dialogue([]), elem_id="dialogue")
        question = gr.Textbox(
            label="Next question",
            placeholder="how many shapes are there?",
            elem_id="chat-question",
            max_lines=1,
        )
        with gr.Row():
            clear = gr.Button("Clear", elem_id="do-clear", min_width=80, scale=1)
            button = gr.Button("Send", variant="primary", elem_id="do-chat", min_width=80, scale=3)
    _begin(
        [button.click, question.submit],
        questions.chat,
        [*asked, question, dialogue, *options],
        [shown, dialogue, question],
    )
    clear.click(questions.clear, None, [shown, dialogue], **_QUIET)


def _match(questions: AskHandlers, asked: list[Any]) -> None:
    with _tab("Match"):
        texts = gr.Textbox(label="Texts, one a line", lines=4, max_lines=12, elem_id="texts")
        button = gr.Button("Match", variant="primary", elem_id="do-match")
        answer = _html(elem_id="match-answer")
    _begin([button.click], questions.match, [*asked, texts], answer)


def _begin(events: Sequence[Any], function: Any, inputs: Sequence[Any], answer: Any) -> None:
    # Gradio would overlook whoever presses again before the browser knows that the last is over.
    gr.on(events, function, inputs, answer, trigger_mode="multiple", **_ASKED)


def _batch(batches: Batches, files: gr.File, options: Sequence[Any]) -> None:
    with _tab("Batch"):
        running = gr.State(None)
        with gr.Row():
            task = gr.Radio(
                [("Caption", "caption"), ("Question", "vqa")],
                value="caption",
                label="What is asked",
                elem_id="batch-task",
                min_width=180,
            )
            question = gr.Textbox(
                label="Question, or how captions begin",
                elem_id="batch-question",
                max_lines=1,
                min_width=180,
            )
        with gr.Row():
            cancel = gr.Button("Cancel", visible=False, elem_id="do-cancel", min_width=80, scale=1)
            button = gr.Button("Run", variant="primary", elem_id="do-batch", min_width=80, scale=3)
        shown = _html(elem_id="batch-progress")
        links = _html(elem_id="batch-downloads")
        table = _html(elem_id="batch-results")
    button.click(
        batches.run,
        [files, task, question, *options],
        [shown, table, links, running, button, cancel],
        **_ASKED,
    )
    cancel.click(batches.cancel, running, None, **_QUIET)
