"""The page's layout in Gradio, and its event handlers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import gradio as gr

from ..gateway.state import Gateway
from . import views
from .ask import NO_DIALOGUE, AskHandlers
from .batches import BatchHandlers
from .header import PageHeader
from .options import option_fields
from .pending import PendingAnswers
from .visits import Visits

STYLE: Final = Path(__file__).with_name("style.css")
#: Interval in seconds at which an open page refreshes its header.
REFRESH_S: Final = 5.0

_FONT: Final = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO: Final = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]
#: System fonts only, as the policy allows no other host; style.css sets the colors.
PALETTE: Final = gr.themes.Base(
    primary_hue="blue", neutral_hue="stone", font=_FONT, font_mono=_MONO, radius_size="lg"
)
#: No public API, no progress indicator of Gradio (the views have their own), and no decoding of
#: uploaded files in this process.
_EVENT: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "preprocess": False,
}
#: Options of handlers that return immediately.
_UNQUEUED_EVENT: Final[dict[str, Any]] = {**_EVENT, "queue": False}


class ImageInputs(NamedTuple):
    """Inputs for a single image, and for a batch; style.css shows those of the chosen tab."""

    upload: gr.Image
    url: gr.Textbox
    files: gr.File


def build(gateway: Gateway, pending: PendingAnswers, delete_cache: tuple[int, int]) -> Any:
    """Build the page; `delete_cache` is Gradio's interval of cleanup and maximum age of files."""
    header, visits = PageHeader(gateway), Visits()
    with gr.Blocks(
        title="Blipline", analytics_enabled=False, fill_width=True, delete_cache=delete_cache
    ) as blocks:
        # Sanitizing would make its form open another tab. It contains only a name and numbers.
        head = _html(views.header("", None, can_leave=False), elem_id="head", sanitize_html=False)
        with gr.Row(elem_id="work"):
            with gr.Column(scale=5, min_width=320, elem_id="left"):
                inputs = _image_inputs()
                with gr.Column(elem_id="options"):
                    # Not gr.Accordion: when it is opened, it rebuilds its fields and loses input.
                    _html("<details><summary>Options</summary></details>")
                    options = option_fields()
            with gr.Column(scale=7, min_width=320, elem_id="right"):
                resume_batch = _tabs(gateway, pending, visits, inputs, options)
        restored = blocks.load(visits.restore, None, visits.components, postprocess=False, **_EVENT)
        restored.then(*resume_batch, **_EVENT)
        blocks.load(header.render, None, head, **_UNQUEUED_EVENT)
        gr.Timer(REFRESH_S).tick(header.render, None, head, **_UNQUEUED_EVENT)
    return blocks


def _image_inputs() -> ImageInputs:
    with gr.Group(elem_id="single-image"):
        upload = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=["fullscreen"],
            label="Image",
            show_label=False,
            placeholder="Drop an image here, paste one, or choose a file",
            height=340,
            elem_id="image",
        )
        url = gr.Textbox(
            placeholder="or enter its URL: https://…",
            label="Image URL",
            show_label=False,
            max_lines=1,
            elem_id="url",
        )
    with gr.Group(elem_id="batch-images"):
        files = gr.File(
            # Any type: Gradio would reject all files because of a wrong one, which gets a row.
            file_count="multiple",
            label="Images",
            height=340,
            elem_id="files",
        )
    return ImageInputs(upload, url, files)


def _tabs(
    gateway: Gateway,
    pending: PendingAnswers,
    visits: Visits,
    inputs: ImageInputs,
    options: Sequence[Any],
) -> tuple[Any, Any, Any]:
    """Build the tabs; return the handler that resumes a batch, its inputs and its outputs."""
    handlers = AskHandlers(gateway, pending)
    image: list[Any] = [inputs.upload, inputs.url]
    with gr.Tabs(elem_id="tabs"):
        _caption_tab(handlers, visits, image, options)
        _ask_tab(handlers, visits, image, options)
        _chat_tab(handlers, visits, image, options)
        _match_tab(handlers, visits, image)
        resume_batch = _batch_tab(BatchHandlers(gateway), visits, inputs.files, options)
    # An uploaded or pasted image replaces a URL.
    inputs.upload.upload(lambda: "", None, inputs.url, **_UNQUEUED_EVENT)
    # While a URL is typed, only its last state matters.
    changes = [component.change for component in image]
    gr.on(
        changes,
        visits.record_call(handlers.choose_image, image),
        image,
        None,
        trigger_mode="always_last",
        **_UNQUEUED_EVENT,
    )
    return resume_batch


def _html(value: str = "", **options: Any) -> Any:
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
    gr.on(events, recorded, inputs, outputs, trigger_mode="multiple", **_EVENT)


def _caption_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    with _tab("Caption"):
        prompt = gr.Textbox(
            label="Beginning of the caption (optional)", elem_id="prompt", max_lines=1
        )
        button = gr.Button("Caption", variant="primary", elem_id="do-caption")
        answer = _html(elem_id="caption-answer")
    inputs = [*image, prompt, *options]
    _bind(visits, [button.click, prompt.submit], handlers.caption, inputs, [answer])


def _ask_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    with _tab("Ask"):
        question = gr.Textbox(
            label="Question",
            placeholder="what color is the background?",
            elem_id="question",
            max_lines=1,
        )
        button = gr.Button("Ask", variant="primary", elem_id="do-ask")
        answer = _html(elem_id="ask-answer")
    inputs = [*image, question, *options]
    _bind(visits, [button.click, question.submit], handlers.ask, inputs, [answer])


def _chat_tab(
    handlers: AskHandlers, visits: Visits, image: list[Any], options: Sequence[Any]
) -> None:
    with _tab("Chat"):
        dialogue = gr.State(NO_DIALOGUE)
        view = _html(views.dialogue([]), elem_id="dialogue")
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
    clear.click(recorded, None, outputs, **_UNQUEUED_EVENT)


def _match_tab(handlers: AskHandlers, visits: Visits, image: list[Any]) -> None:
    with _tab("Match"):
        texts = gr.Textbox(label="Texts, one per line", lines=4, max_lines=12, elem_id="texts")
        button = gr.Button("Match", variant="primary", elem_id="do-match")
        answer = _html(elem_id="match-answer")
    _bind(visits, [button.click], handlers.match, [*image, texts], [answer])


def _batch_tab(
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
        progress = _html(elem_id="batch-progress")
        links = _html(elem_id="batch-downloads")
        table = _html(elem_id="batch-results")
    outputs = [progress, table, links, batch_id, button, cancel]
    inputs = [files, task, question, *options]
    run = visits.record(handlers.run, inputs, outputs, is_resumable=True)
    button.click(run, inputs, outputs, **_EVENT)
    cancel.click(handlers.cancel, batch_id, None, **_UNQUEUED_EVENT)
    return handlers.resume, [files, batch_id], outputs
