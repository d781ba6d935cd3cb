"""`python -m worker info`: the memory that a model needs, without its weights."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from transformers import BlipConfig

from config.settings import DEMO_MODEL
from worker import info
from worker.info import memory_size


@pytest.fixture
def captioner(tmp_path: Path) -> Path:
    """A directory with nothing but the config.json of BLIP-large's shape."""
    config = BlipConfig(
        text_config={"encoder_hidden_size": 1024},
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
        },
        architectures=["BlipForConditionalGeneration"],
    )
    config.save_pretrained(tmp_path)
    return tmp_path


def test_the_model_of_the_settings_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main(["--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["family", "BLIP-2", "with", "OPT"] in lines
    assert ["tasks", "caption,", "chat,", "vqa"] in lines
    assert ["parameters", "2,083,968"] in lines
    assert ["int4", "96.81", "KB", "1.02", "MB", "4.07", "MB"] in lines
    assert [line[0] for line in lines if line and line[-1] == "yes"] == [
        "fp32",
        "bf16",
        "fp16",
        "int8",
        "int4",
    ]


def test_a_configuration_alone_is_enough(
    captioner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert info.main([str(captioner), "--memory", "1GB", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] == "BLIP for conditional generation"
    assert (facts["tasks"], facts["image_size"]) == (["caption"], 384)
    assert facts["parameters"] == 446_290_492  # the hub's 470 million count the head twice
    assert facts["free_bytes"] == 10**9
    lines = {line["precision"]: line for line in facts["precisions"]}
    assert not lines["fp32"]["fits"]
    assert lines["fp32"]["rows"] == 0
    assert lines["fp16"]["fits"] == (lines["fp16"]["rows"] > 0)
    assert lines["int4"]["rows"] > lines["fp16"]["rows"]
    assert lines["int8"]["weight_bytes"] < 0.6 * lines["fp16"]["weight_bytes"]


def test_a_precision_without_its_package_does_not_fit(
    captioner: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker would not load it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert info.main([str(captioner), "--memory", "64GB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "int8 needs the package bitsandbytes, which is not installed." in lines
    ends = {line.split()[0]: line.split()[-1] for line in lines if line[15:16] == " " and line}
    assert (ends["fp32"], ends["int8"], ends["int4"]) == ("yes", "no", "no")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/directory"], "does not exist"),
        (["--device", "tpu"], "choose auto, cpu, cuda"),
        (["--device", "cuda:77"], "CUDA"),
    ],
)
def test_an_unusable_model_or_setting_is_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert info.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.parametrize("text", ["{}", "not json", '{"model_type": "bert"}'])
def test_a_configuration_of_an_unknown_model_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert info.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_configuration_that_contradicts_itself_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((DEMO_MODEL / "config.json").read_text())
    config["vision_config"]["num_attention_heads"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert info.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GB", 24 * 10**9),
        ("16 GiB", 16 * 2**30),
        ("1.5g", 1_500_000_000),
        ("512MiB", 2**29),
        ("1000", 1000),
    ],
)
def test_amounts_of_memory(text: str, count: int) -> None:
    assert memory_size(text) == count


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "4PB", "1GB each"])
def test_an_invalid_amount_of_memory_is_rejected(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        info.main([f"--memory={text}"])
    assert ended.value.code == 2
    assert "24GB" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    # A failed write stays in the buffer, and is written again when the file is closed.
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert info.main([]) == 0
