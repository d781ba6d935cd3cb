"""Gradio writes no stub files, neither next to its own components nor to others."""

from __future__ import annotations

from pathlib import Path

import producer.page


def test_a_component_gets_no_stub_file() -> None:
    assert producer.page  # It must be imported before Gradio.
    import gradio as gr

    class Own(gr.Textbox):
        """A component in a file of its own."""

    assert Own(label="text").label == "text"
    assert not Path(__file__).with_suffix(".pyi").exists()
