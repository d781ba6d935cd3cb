"""Adapters of peft: merged in every precision as peft merges them, errors in one sentence."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
)

from tests.engine.workload import run
from tests.models.adapters import LANGUAGE, lora, merge, peft_config, save_adapter
from tests.models.blip_checkpoints import save_caption
from tests.models.checkpoints import SaveOnce
from tests.models.families import NETWORKS, Family
from tests.models.t5_checkpoints import save_blip2
from tests.models.tiny_networks import OPT, blip2
from tests.models.traffic import sample_of
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.request import GenerationOptions
from worker.hub.reference import Snapshot
from worker.hub.resolver import resolve
from worker.models import checkpoint as checkpoints
from worker.models.checkpoint import check_host_memory, read_config, read_weights
from worker.models.memory_shapes import skeleton
from worker.models.registry import PRECISIONS, load

if TYPE_CHECKING:
    from peft import PeftConfig

CPU = torch.device("cpu")
BLIP2 = Blip2ForConditionalGeneration
ATTENTION = r".*\.(query|key|value)"
#: Adapters of a BLIP-2 with OPT.
KINDS: dict[str, Callable[[], PeftConfig]] = {
    "attention": lambda: lora(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    "all linear layers": lambda: lora(target_modules="all-linear"),
    "rslora": lambda: lora(use_rslora=True),
    "dora": lambda: lora(use_dora=True),
    "patterns": lambda: lora(rank_pattern={"layers.1.fc1": 2}, alpha_pattern={"fc2": 9}),
    "whole modules": lambda: lora(modules_to_save=["language_projection"]),
    "all biases": lambda: lora(bias="all"),
    "embeddings": lambda: lora(target_modules=["embed_tokens"]),
    "ia3": lambda: peft_config(
        "IA3Config", target_modules=["k_proj", "v_proj"], feedforward_modules=[]
    ),
    "loha": lambda: peft_config("LoHaConfig", r=3, alpha=5, target_modules=LANGUAGE),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLIP-2 with OPT of sizes that every precision supports."""
    path = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    BLIP2(blip2(OPT)).save_pretrained(path)
    return path


def read(path: Path, adapter: str = "", precision: str = "fp32") -> Any:
    return read_weights(BLIP2, resolve(str(path), adapter=adapter), precision, CPU)


def assert_equal_weights(network: Any, expected: Any) -> None:
    weights, reference = network.state_dict(), expected.state_dict()
    assert weights.keys() == reference.keys()
    for name, tensor in reference.items():
        assert weights[name].dtype == tensor.dtype, name
        assert torch.equal(weights[name], tensor), name


@pytest.mark.parametrize(
    "kind", sample_of(KINDS, "dora", "patterns", "whole modules", "all biases", "loha")
)
def test_an_adapter_of_each_kind_is_merged_as_peft_merges_it(
    base: Path, tmp_path: Path, kind: str
) -> None:
    adapter = save_adapter(BLIP2, base, tmp_path, KINDS[kind]())
    merged = read(base, str(adapter))
    assert_equal_weights(merged, merge(BLIP2, base, adapter))
    plain = load_file(base / "model.safetensors")
    assert any(not torch.equal(merged.state_dict()[name], plain[name]) for name in plain)


def test_a_merged_model_is_stored_in_each_precision_as_one_that_peft_has_saved(
    base: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(BLIP2, base, tmp_path / "adapter")
    merge(BLIP2, base, adapter).save_pretrained(tmp_path / "merged")
    for precision in PRECISIONS:
        merged = read(tmp_path / "merged", precision=precision)
        assert_equal_weights(read(base, str(adapter), precision), merged)


@pytest.mark.parametrize(
    "name", sample_of(["blip-caption", "blip-vqa", "t5", "instructblip"], "blip-vqa", "t5")
)
def test_answers_are_those_of_the_network_that_peft_merges(
    save_once: SaveOnce, tmp_path: Path, name: str
) -> None:
    network_class, base = NETWORKS[name][0], save_once(name.removeprefix("blip-"))
    targets = ATTENTION if name.startswith("blip-") else LANGUAGE
    config = lora(target_modules=targets)
    adapter = save_adapter(network_class, base, tmp_path / "adapter", config)
    family = Family(base, network_class, adapter)
    options = GenerationOptions(max_new_tokens=9, output_scores=True)
    texts = ["what color is the circle?", "how many?"]
    requests = [family.request(number, number, texts[number % 2], options) for number in range(4)]
    answers = run(Engine(family.model, max_rows=8), *requests)
    tokens = [answers[request.id].sequences[0].tokens for request in requests]
    assert tokens == [family.alone(request)[0].tokens for request in requests]
    family.network = network_class.from_pretrained(base).eval()
    assert tokens[0] != family.alone(requests[0])[0].tokens


def test_an_adapter_of_flan_t5_is_merged_beside_its_untied_head(tmp_path: Path) -> None:
    save_blip2(tmp_path / "base")
    adapter = save_adapter(BLIP2, tmp_path / "base", tmp_path / "adapter")
    network = read(tmp_path / "base", str(adapter))
    assert_equal_weights(network, merge(BLIP2, tmp_path / "base", adapter))


def test_an_adapter_beside_the_weights_is_merged_or_left_out(base: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(base, both)
    save_adapter(BLIP2, base, both)
    assert_equal_weights(read(both, str(both)), merge(BLIP2, base, both))
    assert_equal_weights(read(both, "none"), read(base))
    second = save_adapter(BLIP2, base, tmp_path / "second", seed=8)
    assert_equal_weights(read(both, str(second)), merge(BLIP2, base, second))


def test_a_model_that_is_an_adapter_names_its_base(checkpoint: Path, tmp_path: Path) -> None:
    adapter = save_adapter(BLIP2, checkpoint, tmp_path / "adapter")
    named = resolve(str(adapter))
    assert named == Snapshot(str(checkpoint), checkpoint, "", Snapshot(str(adapter), adapter))
    assert named == resolve(str(checkpoint), adapter=str(adapter))
    model = load(str(adapter), device="cpu")
    assert model.name == f"{checkpoint} with {adapter}"
    assert model.revision == load(named, device="cpu").revision


def test_each_file_of_an_adapter_changes_the_revision(checkpoint: Path, tmp_path: Path) -> None:
    adapter = save_adapter(BLIP2, checkpoint, tmp_path / "adapter")
    revisions = [load(str(checkpoint), device="cpu").revision]
    revisions.append(load(str(adapter), device="cpu").revision)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for change in ({"lora_alpha": 6}, {"lora_alpha": 5, "use_rslora": True}):
        (adapter / "adapter_config.json").write_text(json.dumps(settings | change))
        revisions.append(load(str(adapter), device="cpu").revision)
    save_adapter(BLIP2, checkpoint, adapter, seed=8)
    revisions.append(load(str(adapter), device="cpu").revision)
    assert len(set(revisions)) == 5
    # Files that the worker does not read
    (adapter / "optimizer.pt").write_bytes(b"moments")
    (adapter / "checkpoint-500").mkdir()
    (adapter / "checkpoint-500" / "adapter_model.safetensors").write_bytes(b"earlier")
    assert load(str(adapter), device="cpu").revision == revisions[-1]


def test_an_adapter_may_have_its_own_processor_and_tokenizer(
    checkpoint: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(BLIP2, checkpoint, tmp_path / "adapter")
    processor = BlipImageProcessorPil.from_pretrained(checkpoint)
    processor.image_mean = [0.1, 0.2, 0.3]
    processor.save_pretrained(adapter)
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_bos_token = False
    tokenizer.save_pretrained(adapter)
    model: Any = load(str(adapter), device="cpu")
    assert model.normalize.table[0, 0] == pytest.approx(-0.1 / 0.26862954)
    assert not model.tokenizer.add_bos_token


def refusal(base: Path, adapter: Path) -> str:
    with pytest.raises(LoadError) as raised:
        read(base, str(adapter))
    message = str(raised.value)
    assert "\n" not in message
    assert f"Adapter '{adapter}'" in message
    return message


def edit_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def rename_first(weights: dict[str, torch.Tensor]) -> None:
    first = sorted(weights)[0]
    weights[first.replace("language_model", "backbone")] = weights.pop(first)


def damage(weights: dict[str, torch.Tensor]) -> None:
    weights[sorted(weights)[0]].fill_(torch.nan)


#: Changes of an adapter's weights, and part of the sentence.
WRONG: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "a lost tensor": (
        lambda weights: weights.pop(sorted(weights)[0]),
        "1 tensors are missing in the adapter",
    ),
    "a name of another network": (rename_first, "1 tensors match nothing in it"),
    "another shape": (
        lambda weights: weights.update({sorted(weights)[0]: torch.zeros(3, 5)}),
        "size mismatch for",
    ),
    "not finite": (damage, "NaNs detected in the merged weights"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_do_not_fit_the_base_are_refused(
    base: Path, tmp_path: Path, case: str
) -> None:
    change, part = WRONG[case]
    adapter = save_adapter(BLIP2, base, tmp_path / "adapter")
    edit_weights(adapter, change)
    message = refusal(base, adapter)
    assert part in message
    assert "set BLIPLINE_MODEL to the model that it was trained on" in message


def test_an_adapter_of_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    save_caption(tmp_path / "caption")
    config = lora(target_modules=ATTENTION)
    adapter = save_adapter(
        BlipForConditionalGeneration, tmp_path / "caption", tmp_path / "adapter", config
    )
    assert f"does not fit '{base}'" in refusal(base, adapter)


def test_an_adapter_without_weights_is_refused_before_the_base_is_loaded(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(BLIP2, base, tmp_path / "adapter")
    monkeypatch.setattr(checkpoints, "_from_pretrained", None)
    (adapter / "adapter_model.safetensors").unlink()
    assert "has neither adapter_model.safetensors nor adapter_model.bin" in (refusal(base, adapter))


def test_an_adapter_that_cannot_be_merged_is_refused_before_the_base_is_loaded(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_from_pretrained", None)
    prompts = peft_config("PromptTuningConfig", num_virtual_tokens=4, num_layers=2, token_dim=32)
    prompts.save_pretrained(tmp_path)
    save_file({"prompt_embeddings": torch.zeros(4, 32)}, tmp_path / "adapter_model.safetensors")
    assert "of peft's kind PROMPT_TUNING, which cannot be merged" in refusal(base, tmp_path)
    lora(layer_replication=[(0, 1), (0, 2)]).save_pretrained(tmp_path)
    assert "repeats layers (layer_replication)" in refusal(base, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "NEW"}')
    assert "(" in refusal(base, tmp_path)


def test_without_peft_the_remedy_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(BLIP2, base, tmp_path / "adapter")
    monkeypatch.setitem(sys.modules, "peft", None)
    message = refusal(base, adapter)
    assert "needs the package peft; install the packages of requirements.txt" in message
    assert read(base)


def test_a_host_without_memory_for_the_merge_is_named(base: Path) -> None:
    snapshot = resolve(str(base))
    network = skeleton(read_config(snapshot), BLIP2)
    needed = 4 * sum(weight.numel() for weight in network.parameters())
    check_host_memory(snapshot, network, free=lambda device: needed)
    with pytest.raises(LoadError, match="save the result on a larger machine"):
        check_host_memory(snapshot, network, free=lambda device: needed - 1)
