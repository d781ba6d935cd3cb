"""The guide names every parameter, and its first example runs."""

from __future__ import annotations

import re
from typing import Final

import openai
import pytest

from demo.stack import ROOT
from producer.openai_api.parameters import IGNORED, UNSUPPORTED
from tests.gateway.conftest import Reached

from .conftest import Recorder

GUIDE: Final = (ROOT / "docs" / "clients.md").read_text()


@pytest.mark.parametrize("name", sorted(IGNORED | set(UNSUPPORTED)))
def test_every_parameter_without_support_is_listed(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`", GUIDE, re.MULTILINE)


def test_the_first_example_prints_the_answer(
    gateway: Reached, worker: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    example, *others = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    program = example.replace("http://127.0.0.1:8000", gateway.url)
    exec(program.replace("blip_…", gateway.keys["acme"]), {"openai": openai})
    assert capsys.readouterr().out == "answer to what color is it?\n"
    for program in others:
        compile(program, "an example", "exec")
