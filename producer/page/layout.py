"""The page's layout in Gradio, and its event handlers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import gradio as gr

from ..gateway.state import Gateway
from . import views
from .ask import AskHandlers
from .batches import BatchHandlers
from .header import PageHeader
from .options import option_fields
from .pending import PendingAnswers
from .tabs import (
    EVENT,
    UNQUEUED_EVENT,
    ask_tab,
    batch_tab,
    caption_tab,
    chat_tab,
    describe_tab,
    html,
    match_tab,
)
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
        head = html(views.header("", None, can_leave=False), elem_id="head", sanitize_html=False)
        with gr.Row(elem_id="work"):
            with gr.Column(scale=5, min_width=320, elem_id="left"):
                inputs = _image_inputs()
                with gr.Column(elem_id="options"):
                    # Not gr.Accordion: when it is opened, it rebuilds its fields and loses input.
                    html("<details><summary>Options</summary></details>")
                    options = option_fields()
            with gr.Column(scale=7, min_width=320, elem_id="right"):
                resume_batch = _tabs(gateway, pending, visits, inputs, options)
        restored = blocks.load(visits.restore, None, visits.components, postprocess=False, **EVENT)
        restored.then(*resume_batch, **EVENT)
        blocks.load(header.render, None, head, **UNQUEUED_EVENT)
        gr.Timer(REFRESH_S).tick(header.render, None, head, **UNQUEUED_EVENT)
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
        caption_tab(handlers, visits, image, options)
        describe_tab(handlers, visits, image, options)
        ask_tab(handlers, visits, image, options)
        chat_tab(handlers, visits, image, options)
        match_tab(handlers, visits, image)
        resume_batch = batch_tab(BatchHandlers(gateway), visits, inputs.files, options)
    # An uploaded or pasted image replaces a URL.
    inputs.upload.upload(lambda: "", None, inputs.url, **UNQUEUED_EVENT)
    # While a URL is typed, only its last state matters.
    changes = [component.change for component in image]
    gr.on(
        changes,
        visits.record_call(handlers.choose_image, image),
        image,
        None,
        trigger_mode="always_last",
        **UNQUEUED_EVENT,
    )
    return resume_batch
