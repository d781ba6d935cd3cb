"""The tabs of the page, and their event handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from ..contract import Detail
from . import views
from .ask import NO_DIALOGUE, AskHandlers
from .batches import BatchHandlers
from .visits import Visits

#: No public API, no progress indicator of Gradio (the views have their own), and no decoding of
#: uploaded files in this process.
EVENT: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "preprocess": False,
}
#: Options of handlers that return immediately.
UNQUEUED_EVENT: Final[dict[str, Any]] = {**EVENT, "queue": False}
#: Labels of the levels of detail.
_DETAILS: Final = [
    ("Low: 1 round", Detail.LOW.value),
    ("Medium: 2 rounds", Detail.MEDIUM.value),
    ("High: 3 rounds", Detail.HIGH.value),
]


def html(value: str = "", **options: Any) -> Any:
    """Return an output for the HTML of a view."""
    return gr.Markdown(value, latex_delimiters=[], container=False, **options)


def _tab(name: str) -> Any:
    """Return a tab that is rendered with the page.

    Otherwise Gradio renders a tab after it was opened, and loses the input typed meanwhile.
    """
    return gr.Tab(name, id=name.lower(), render_children=True)


def _bind(
    visits: Visits,
    events: Sequence[Any],
    handler: Any,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    # In the default mode, Gradio ignores a second click until the browser knows that the first
    # event has ended.
    recorded = visits.record(handler, inputs, outputs)
    gr.on(events, recorded, inputs, outputs, trigger_mode="multiple", **EVENT)


def caption_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    """Build the tab of captions."""
    with _tab("Caption"):
        prompt = gr.Textbox(
            label="Beginning of the caption (optional)", elem_id="prompt", max_lines=1
        )
        button = gr.Button("Caption", variant="primary", elem_id="do-caption")
        answer = html(elem_id="caption-answer")
    inputs = [*image, prompt, *options]
    _bind(visits, [button.click, prompt.submit], handlers.caption, inputs, [answer])


def describe_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    """Build the tab of descriptions."""
    with _tab("Describe"):
        detail = gr.Radio(
            _DETAILS, value=Detail.MEDIUM.value, label="Detail", elem_id="detail", min_width=180
        )
        prompts = gr.Textbox(
            label="Prompts, one per line (optional)", lines=2, max_lines=8, elem_id="prompts"
        )
        button = gr.Button("Describe", variant="primary", elem_id="do-describe")
        answer = html(elem_id="describe-answer")
    inputs = [*image, detail, prompts, *options]
    _bind(visits, [button.click], handlers.describe, inputs, [answer])


def ask_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    """Build the tab of questions."""
    with _tab("Ask"):
        question = gr.Textbox(
            label="Question",
            placeholder="what color is the background?",
            elem_id="question",
            max_lines=1,
        )
        button = gr.Button("Ask", variant="primary", elem_id="do-ask")
        answer = html(elem_id="ask-answer")
    inputs = [*image, question, *options]
    _bind(visits, [button.click, question.submit], handlers.ask, inputs, [answer])


def chat_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    """Build the tab of dialogues."""
    with _tab("Chat"):
        dialogue = gr.State(NO_DIALOGUE)
        view = html(views.dialogue([]), elem_id="dialogue")
        question = gr.Textbox(
            label="Next question",
            placeholder="how many shapes are there?",
            elem_id="chat-question",
            max_lines=1,
        )
        with gr.Row():
            clear = gr.Button("Clear", elem_id="do-clear", min_width=80, scale=1)
            button = gr.Button("Send", variant="primary", elem_id="do-chat", min_width=80, scale=3)
    _bind(
        visits,
        [button.click, question.submit],
        handlers.chat,
        [*image, question, dialogue, *options],
        [view, dialogue, question],
    )
    outputs = [view, dialogue]
    recorded = visits.record_call(handlers.clear, [], outputs)
    clear.click(recorded, None, outputs, **UNQUEUED_EVENT)


def match_tab(handlers: AskHandlers, visits: Visits, image: list[Any]) -> None:
    """Build the tab of matches."""
    with _tab("Match"):
        texts = gr.Textbox(label="Texts, one per line", lines=4, max_lines=12, elem_id="texts")
        button = gr.Button("Match", variant="primary", elem_id="do-match")
        answer = html(elem_id="match-answer")
    _bind(visits, [button.click], handlers.match, [*image, texts], [answer])


def batch_tab(
    handlers: BatchHandlers, visits: Visits, files: gr.File, options: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """Build the tab; return the handler that resumes a batch, its inputs and its outputs."""
    with _tab("Batch"):
        batch_id = gr.State(None)
        with gr.Row():
            task = gr.Radio(
                [("Caption", "caption"), ("Question", "vqa")],
                value="caption",
                label="Task",
                elem_id="batch-task",
                min_width=180,
            )
            question = gr.Textbox(
                label="Question, or beginning of the captions",
                elem_id="batch-question",
                max_lines=1,
                min_width=180,
            )
        with gr.Row():
            cancel = gr.Button("Cancel", visible=False, elem_id="do-cancel", min_width=80, scale=1)
            button = gr.Button("Run", variant="primary", elem_id="do-batch", min_width=80, scale=3)
        progress = html(elem_id="batch-progress")
        links = html(elem_id="batch-downloads")
        table = html(elem_id="batch-results")
    outputs = [progress, table, links, batch_id, button, cancel]
    inputs = [files, task, question, *options]
    run = visits.record(handlers.run, inputs, outputs, is_resumable=True)
    button.click(run, inputs, outputs, **EVENT)
    cancel.click(handlers.cancel, batch_id, None, **UNQUEUED_EVENT)
    return handlers.resume, [files, batch_id], outputs
