"""The guide names every parameter without support, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from huggingface_hub import InferenceClient

from demo.stack import ROOT
from producer.hf_api.parameters import UNSUPPORTED
from producer.hf_api.tasks import TASKS
from tests.gateway.conftest import Reached
from tests.gateway.fake_worker import Recorder, output_of

GUIDE: Final = (ROOT / "docs" / "clients.md").read_text().partition("## Hugging Face")[2]


@pytest.mark.parametrize("name", [*UNSUPPORTED, *TASKS])
def test_every_task_and_every_parameter_without_support_is_listed(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`", GUIDE, re.MULTILINE)


def test_the_example_runs(
    gateway: Reached,
    worker: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8\xff an image")
    monkeypatch.chdir(tmp_path)
    worker.answer = output_of
    (example, *_) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    program = example.replace("http://127.0.0.1:8000", gateway.url)
    exec(program.replace("blip_…", gateway.keys["acme"]), {"InferenceClient": InferenceClient})
    assert capsys.readouterr().out.startswith("a cat\na cat\n")
