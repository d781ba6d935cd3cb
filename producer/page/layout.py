"""The page as Gradio builds it: what is where, and which button does what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import gradio as gr

from ..gateway.parts import Gateway
from . import views
from .batches import Batches
from .leaving import Leaving
from .options import option_fields
from .questions import NO_DIALOGUE, Questions
from .queues import Queues

STYLE: Final = Path(__file__).with_name("style.css")
#: Seconds between two looks at the queues by an open page.
LOOK_S: Final = 5.0

_FONT: Final = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO: Final = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]
#: No fonts from elsewhere; the colors are those of style.css.
PALETTE: Final = gr.themes.Base(
    primary_hue="blue", neutral_hue="stone", font=_FONT, font_mono=_MONO, radius_size="lg"
)
#: What is heard of an event, and shown while it runs; the page is no interface for programs. What
#: is quiet is done in a moment, and waits in no queue.
_QUIET: Final[dict[str, Any]] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "queue": False,
}
_SHOWN: Final[dict[str, Any]] = {"api_visibility": "private", "show_progress": "minimal"}
#: Files come as they were uploaded: nothing here decodes them.
_RAW: Final[dict[str, Any]] = {**_SHOWN, "preprocess": False}


class Pictures(NamedTuple):
    """What is asked about: one picture, or several for a batch; one of the groups is shown."""

    one: gr.Group
    picture: gr.Image
    url: gr.Textbox
    several: gr.Group
    files: gr.File


class Asking(NamedTuple):
    """A tab about one picture: where its answer stands, and what its button begins."""

    tab: Any
    answer: Any
    begun: Any


def build(gateway: Gateway, leaving: Leaving, delete_cache: tuple[int, int]) -> Any:
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
                _tabs(gateway, leaving, pictures, options)
        blocks.load(queues.header, None, head, **_QUIET)
        gr.Timer(LOOK_S).tick(queues.header, None, head, **_QUIET)
    return blocks


def _pictures() -> Pictures:
    with gr.Group(elem_id="one") as one:
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
    with gr.Group(visible="hidden", elem_id="several") as several:
        files = gr.File(
            file_count="multiple",
            file_types=["image"],
            label="Pictures",
            height=340,
            elem_id="files",
        )
    return Pictures(one, picture, url, several, files)


def _tabs(gateway: Gateway, leaving: Leaving, pictures: Pictures, options: Sequence[Any]) -> None:
    questions, asked = Questions(gateway, leaving), [pictures.picture, pictures.url]
    dialogue = gr.State(NO_DIALOGUE)
    with gr.Tabs(elem_id="tabs"):
        single = [_caption(questions, asked, options), _ask(questions, asked, options)]
        chat = _chat(questions, asked, dialogue, options)
        single.append(_match(questions, asked))
        batch = _batch(Batches(gateway), pictures.files, options)
    _forget(single, chat, dialogue, asked)
    sides = [pictures.one, pictures.several]
    for asking in (*single, chat):
        asking.tab.select(lambda: _sides(single=True), None, sides, **_QUIET)
    batch.select(lambda: _sides(single=False), None, sides, **_QUIET)


def _forget(single: Sequence[Asking], chat: Asking, dialogue: Any, asked: Sequence[Any]) -> None:
    """What was said of one picture says nothing of another; nor does what was asked before."""
    for asking in single:
        asking.begun.failure(lambda: "", None, asking.answer, **_QUIET)
    gr.on(
        [field.change for field in asked],
        lambda: ("", "", "", views.dialogue([]), NO_DIALOGUE),
        None,
        [*(asking.answer for asking in single), chat.answer, dialogue],
        cancels=[asking.begun for asking in (*single, chat)],
        # Of an address that is typed, the last letter is what counts.
        trigger_mode="always_last",
        **_QUIET,
    )


def _html(value: str = "", **named: Any) -> Any:
    return gr.Markdown(value, latex_delimiters=[], container=False, **named)


def _tab(name: str) -> Any:
    """Built with the page, or Gradio builds it after it was turned to, and what is typed at once
    is lost."""
    return gr.Tab(name, id=name.lower(), render_children=True)


def _sides(*, single: bool) -> tuple[Any, ...]:
    return tuple(gr.update(visible=True if shown else "hidden") for shown in (single, not single))


def _caption(questions: Questions, asked: list[Any], options: Sequence[Any]) -> Asking:
    with _tab("Caption") as tab:
        prompt = gr.Textbox(label="It begins with (may be empty)", elem_id="prompt", max_lines=1)
        button = gr.Button("Caption", variant="primary", elem_id="do-caption")
        answer = _html(elem_id="caption-answer")
    begun = gr.on(
        [button.click, prompt.submit],
        questions.caption,
        [*asked, prompt, *options],
        answer,
        **_RAW,
    )
    return Asking(tab, answer, begun)


def _ask(questions: Questions, asked: list[Any], options: Sequence[Any]) -> Asking:
    with _tab("Ask") as tab:
        question = gr.Textbox(
            label="Question",
            placeholder="what color is the background?",
            elem_id="question",
            max_lines=1,
        )
        button = gr.Button("Ask", variant="primary", elem_id="do-ask")
        answer = _html(elem_id="ask-answer")
    begun = gr.on(
        [button.click, question.submit],
        questions.ask,
        [*asked, question, *options],
        answer,
        **_RAW,
    )
    return Asking(tab, answer, begun)


def _chat(questions: Questions, asked: list[Any], dialogue: Any, options: Sequence[Any]) -> Asking:
    with _tab("Chat") as tab:
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
    begun = gr.on(
        [button.click, question.submit],
        questions.chat,
        [*asked, question, dialogue, *options],
        [shown, dialogue, question],
        **_RAW,
    )
    clear.click(lambda: (views.dialogue([]), NO_DIALOGUE), None, [shown, dialogue], **_QUIET)
    return Asking(tab, shown, begun)


def _match(questions: Questions, asked: list[Any]) -> Asking:
    with _tab("Match") as tab:
        texts = gr.Textbox(label="Texts, one a line", lines=4, max_lines=12, elem_id="texts")
        button = gr.Button("Match", variant="primary", elem_id="do-match")
        answer = _html(elem_id="match-answer")
    begun = button.click(questions.match, [*asked, texts], answer, **_RAW)
    return Asking(tab, answer, begun)


def _batch(batches: Batches, files: gr.File, options: Sequence[Any]) -> Any:
    with _tab("Batch") as tab:
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
    begun = button.click(
        batches.run,
        [files, task, question, *options],
        [shown, table, links, running, button, cancel],
        **{**_RAW, "show_progress": "hidden"},
    )
    begun.failure(_idle, None, [shown, button, cancel], **_QUIET)
    cancel.click(batches.cancel, running, None, **_QUIET)
    return tab


def _idle() -> tuple[str, Any, Any]:
    return "", gr.update(interactive=True), gr.update(visible=False)
