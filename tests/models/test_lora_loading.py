"""Loading of named adapters: precisions, memory, other lanes, and those that rows cannot choose."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Blip2ForConditionalGeneration

from tests.engine.workload import run
from tests.models.adapters import LANGUAGE, lora, merge, peft_config, save_adapter, with_adapters
from tests.models.image_text_checkpoints import save_llava
from tests.models.traffic import picture, serve
from worker import info
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.graphs import GraphedDecode
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.hub.resolver import resolve
from worker.models.checkpoint import read_config
from worker.models.lora import LoraLinear
from worker.models.memory import estimate
from worker.models.registry import PRECISIONS, load

if TYPE_CHECKING:
    from peft import PeftConfig

BLIP2 = Blip2ForConditionalGeneration
LAYER = "language_model.model.decoder.layers.0.self_attn.q_proj"
OPTIONS = GenerationOptions(max_new_tokens=6, min_new_tokens=6)


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Two adapters of the tiny BLIP-2, as a setting names them."""
    folder = tmp_path_factory.mktemp("adapters")
    configs = {"red": lora(), "blue": lora(target_modules=["q_proj", "fc1"], r=2)}
    return [
        (name, str(save_adapter(BLIP2, checkpoint, folder / name, config, seed, scale=0.15)))
        for seed, (name, config) in enumerate(configs.items())
    ]


def load_with(
    path: Path, adapters: list[tuple[str, str]], precision: str = "fp32", merged: str = ""
) -> Any:
    snapshot = resolve(str(path), adapter=merged, adapters=adapters)
    return load(snapshot, precision=precision, device="cpu")


def request(number: int, adapter: str = "", options: GenerationOptions = OPTIONS) -> Request:
    pixels = picture(number % 5).tobytes()
    task = "caption"
    return Request(number, task, f"image-{number % 5}", pixels, "", options, adapter=adapter)


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_the_change_is_computed_in_half_precision_beside_weights_of_any_precision(
    checkpoint: Path, adapters: list[tuple[str, str]], precision: str
) -> None:
    model = load_with(checkpoint, adapters, precision)
    layer = model.network.get_submodule(LAYER)
    assert isinstance(layer, LoraLinear)
    assert {layer.down.dtype, layer.up.dtype} == {torch.bfloat16}
    states = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode(), model.adapters.select(["", "blue"]):
        change = (layer(states) - layer.base(states)).float()
    weights = load_file(Path(dict(adapters)["blue"]) / "adapter_model.safetensors")
    down, up = (weights[f"base_model.model.{LAYER}.lora_{part}.weight"] for part in "AB")
    expected = states[1].float() @ down.T @ up.T * (5 / 2)
    assert not change[0].any()
    torch.testing.assert_close(
        change[1], expected, atol=0.02 * float(expected.abs().max()), rtol=0.02
    )
    engine = Engine(model, max_rows=4)
    check(engine)
    answers = run(engine, request(0, "red"), request(1, "blue"))
    assert all(answer.text for answer in answers.values())


def test_a_named_adapter_adds_to_the_one_that_is_merged(
    checkpoint: Path, adapters: list[tuple[str, str]]
) -> None:
    names = dict(adapters)
    model = load_with(checkpoint, adapters[:1], merged=names["blue"])
    expected = merge(BLIP2, checkpoint, Path(names["blue"])).get_submodule(LAYER).weight
    assert torch.equal(model.network.get_submodule(LAYER).base.weight, expected)
    assert model.revision == load_with(checkpoint, [], merged=names["blue"]).revision


def test_a_named_adapter_changes_no_revision_but_its_own(
    checkpoint: Path, adapters: list[tuple[str, str]], tmp_path: Path
) -> None:
    model = load_with(checkpoint, adapters)
    assert model.revision == load(str(checkpoint), device="cpu").revision
    (red, blue) = model.adapters.infos
    assert red.revision != blue.revision
    copy = save_adapter(BLIP2, checkpoint, tmp_path, lora(), 0, scale=0.15)
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 6}))
    (changed,) = load_with(checkpoint, [("red", str(copy))]).adapters.infos
    assert changed.revision not in (red.revision, blue.revision)


def test_an_unknown_name_is_refused_with_the_known_ones(
    checkpoint: Path, adapters: list[tuple[str, str]]
) -> None:
    engine = Engine(load_with(checkpoint, adapters), max_rows=2)
    answer = run(engine, request(0, "green"))[0]
    assert (answer.error_code, answer.error_message) == (
        "option_invalid",
        "adapter: 'green' is unknown to this worker's model; its adapters are red, blue.",
    )
    answer = run(Engine(load_with(checkpoint, []), max_rows=2), request(0, "red"))[0]
    assert "it has no named adapters" in answer.error_message


def test_graphs_of_decode_steps_distinguish_rows_with_adapters(
    checkpoint: Path, adapters: list[tuple[str, str]]
) -> None:
    model = load_with(checkpoint, adapters)
    generator = random.Random(2)
    requests = [
        request(number, "" if number < 6 else generator.choice(["", "red", "blue"]), options)
        for number, options in enumerate([OPTIONS, GenerationOptions(max_new_tokens=11)] * 12)
    ]
    expected = serve(Engine(model, max_rows=6, reserved_rows=0), list(requests), random.Random(1))
    engine = Engine(model, max_rows=6, reserved_rows=0)
    lane: Any = engine.decoding
    lane.slots.width_step = 16
    # Without a GPU each replay runs the captured function again
    lane.decode = graphed = GraphedDecode(
        model.decoder, lane.slots, lambda captured: captured, model.adapters
    )
    answers = serve(engine, list(requests), random.Random(1))
    assert {id: answer.text for id, answer in answers.items()} == {
        id: answer.text for id, answer in expected.items()
    }
    assert {bucket[-1] for bucket in graphed._graphs} == {True, False}


def test_memory_and_the_report_count_the_adapters(
    checkpoint: Path,
    adapters: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = load_with(checkpoint, adapters)
    layers = [each for each in model.network.modules() if isinstance(each, LoraLinear)]
    elements = sum(layer.down.numel() + layer.up.numel() for layer in layers)
    config = read_config(resolve(str(checkpoint)))
    for precision in PRECISIONS:
        with_adapters, without = (
            estimate(config, precision, torch.device("cpu"), adapter_elements=count)
            for count in (elements, 0)
        )
        added = elements * (4 if precision == "fp32" else 2)
        assert with_adapters.least_bytes - without.least_bytes == added
    setting = ",".join(f"{name}={path}" for name, path in adapters)
    monkeypatch.setenv("BLIPLINE_MODEL", str(checkpoint))
    monkeypatch.setenv("BLIPLINE_ADAPTERS", setting)
    assert info.main(["--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["precisions"][0]["adapter_bytes"] == 4 * elements
    assert facts["adapters"] == ["red", "blue"]
    assert info.main(["--device", "cpu"]) == 0
    assert "adapters    red, blue" in capsys.readouterr().out


def test_a_model_that_runs_in_groups_has_adapters(tmp_path: Path) -> None:
    save_llava(tmp_path / "base")
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "base").eval()
    config = lora(target_modules="all-linear")
    path = save_adapter(type(network), tmp_path / "base", tmp_path / "red", config, scale=0.2)
    model = load_with(tmp_path / "base", [("red", str(path))])
    adapted = with_adapters(network, {"red": path})
    image = b"P6 48 48 255\n" + picture(1).resize((48, 48)).tobytes()
    requests = [
        Request(number, "caption", "", image, text, OPTIONS, adapter=adapter)
        for number, (text, adapter) in enumerate([("", ""), ("", "red"), ("a red cat", "red")])
    ]
    engine = Engine(None, None, model, max_rows=4)
    answers = {answer.id: answer.text for answer in run(engine, *requests).values()}
    for each in requests:
        inputs = model.collate([each])
        with torch.inference_mode():
            arguments = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
            if each.adapter:
                row = adapted.generate(**inputs.arguments, **arguments)
            else:
                with adapted.disable_adapter():
                    row = adapted.generate(**inputs.arguments, **arguments)
        new = row[0, len(inputs.prompts[0].start) :].tolist()
        assert answers[each.id] == model.text(each, inputs.prompts[0], new)
    assert answers[0] != answers[1]


#: Adapters that rows cannot choose, and part of the sentence.
REFUSED: dict[str, tuple[Callable[[], PeftConfig], str]] = {
    "dora": (lambda: lora(use_dora=True), "is a DoRA"),
    "whole modules": (
        lambda: lora(modules_to_save=["language_projection"]),
        "replaces whole modules (modules_to_save)",
    ),
    "biases": (lambda: lora(bias="all"), "changes biases (bias=all)"),
    "own biases": (lambda: lora(lora_bias=True), "has biases of its own"),
    "embeddings": (
        lambda: lora(target_modules=["embed_tokens"]),
        "embed_tokens, which is no plain linear layer",
    ),
    "tokens": (lambda: lora(trainable_token_indices={"embed_tokens": [1]}), "changes embeddings"),
    "convolution": (
        lambda: lora(target_modules=["patch_embedding"]),
        "patch_embedding, which is no plain linear layer",
    ),
    "parameters": (
        lambda: peft_config("LoraConfig", r=2, target_modules=[], target_parameters=["fc1.weight"]),
        "changes parameters that are no linear layer",
    ),
    "pissa": (lambda: lora(init_lora_weights="pissa"), "changes the weights of its base"),
    "ia3": (
        lambda: peft_config("IA3Config", target_modules=["k_proj"], feedforward_modules=[]),
        "is of peft's kind IA3",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_is_no_plain_lora_is_refused_with_the_remedy(
    checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    config, part = REFUSED[kind]
    adapter = save_adapter(BLIP2, checkpoint, tmp_path, config())
    message = refusal(checkpoint, adapter)
    assert part in message
    assert "set BLIPLINE_ADAPTER to it instead" in message


def refusal(base: Path, adapter: Path) -> str:
    with pytest.raises(LoadError) as raised:
        load_with(base, [("red", str(adapter))])
    message = str(raised.value)
    assert "\n" not in message
    assert f"Adapter '{adapter}'" in message
    return message


def test_weights_that_do_not_fit_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    adapter = save_adapter(BLIP2, checkpoint, tmp_path, lora(target_modules=LANGUAGE))
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    first = sorted(weights)[0]
    for change, part in (
        ({first: torch.zeros(3, 5)}, "size mismatch"),
        ({first: torch.full_like(weights[first], torch.nan)}, "not finite"),
        (
            {first.replace("language_model", "backbone"): weights[first].clone()},
            "match nothing in it",
        ),
    ):
        save_file(weights | change, path)
        assert part in refusal(checkpoint, adapter)
    save_file({name: weights[name] for name in weights if name != first}, path)
    assert "are missing in the adapter" in refusal(checkpoint, adapter)
    path.unlink()
    assert "has no weights" in refusal(checkpoint, adapter)
