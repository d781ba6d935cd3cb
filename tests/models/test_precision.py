"""Precisions: the type of each weight, and independent rows in int8 and int4."""

from __future__ import annotations

import logging
import sys
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Blip2ForConditionalGeneration

from config.settings import DEMO_MODEL
from demo.evaluate import held_out
from tests.models.tiny_networks import FAMILIES, OPT, T5, blip2
from tests.models.traffic import sample_of
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import as_generator
from worker.engine.request import Request
from worker.hub.resolver import resolve
from worker.models.checkpoint import check_fits, read_weights
from worker.models.int8 import OUTLIER, Int8Linear, quantize
from worker.models.memory import estimate_plan
from worker.models.memory_shapes import skeleton
from worker.models.precision import check_available, half_type, make_plan
from worker.models.registry import PRECISIONS, load

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Class and directory of a random checkpoint."""
    network_class, config = FAMILIES[request.param]
    path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    network = network_class(config())
    if not getattr(network.config.text_config, "scale_decoder_outputs", True):
        head = network.get_output_embeddings()  # as in the checkpoints of Flan-T5
        head.weight = nn.Parameter(torch.randn_like(head.weight))
    network.save_pretrained(path)
    return network_class, path


def stored(network: Any) -> dict[int, int]:
    """Return the bytes of every tensor by its address, so that shared ones count once."""
    tensors = [*network.state_dict().values(), *network.buffers()]
    return {tensor.data_ptr(): tensor.nbytes for tensor in tensors}


@pytest.mark.parametrize("precision", sample_of(PRECISIONS, "fp16", "int8", "int4"))
def test_every_weight_is_stored_as_planned_and_as_estimated(saved: Any, precision: str) -> None:
    network_class, path = saved
    network = read_weights(network_class, resolve(str(path)), precision, CPU)
    empty = skeleton(network.config, network_class)
    plan = make_plan(empty, precision, CPU)
    for name, weight in network.named_parameters():
        if name.removesuffix(".weight") not in plan.quantized:
            assert weight.dtype == (torch.float32 if name in plan.fp32 else plan.dtype), name
    classes = {name: type(module).__name__ for name, module in network.named_modules()}
    small = {name for name, cls in classes.items() if cls in ("Int8Linear", "Linear4bit")}
    assert small == plan.quantized
    assert bool(small) == (precision in ("int8", "int4"))
    # bitsandbytes stores some hundred bytes of metadata with each int4 matrix.
    more = sum(stored(network).values()) - estimate_plan(empty, plan).weight_bytes
    assert 0 <= more <= (256 * len(small) if precision == "int4" else 0)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_heads_projections_and_the_qformer_are_never_quantized(
    precision: str, device: torch.device
) -> None:
    for network_class, config in FAMILIES.values():
        empty = skeleton(config(), network_class)
        modules = dict(empty.named_modules())
        spared = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
        spared -= make_plan(empty, precision, device).quantized
        head = empty.get_output_embeddings()
        assert all(name in spared for name, module in modules.items() if module is head)
        for name in make_plan(empty, precision, device).quantized:
            assert "qformer" not in name
            assert not name.endswith(("projection", "lm_head", "decoder", ".wo", "itm_head")) or (
                ".self_attn." in name
            ), name


def test_fp16_leaves_sensitive_weights_in_fp32() -> None:
    def fp32_names(text: dict[str, Any], precision: str, device: torch.device) -> frozenset[str]:
        empty = skeleton(blip2(text), Blip2ForConditionalGeneration)
        return make_plan(empty, precision, device).fp32

    opt, t5 = fp32_names(OPT, "fp16", CPU), fp32_names(T5, "fp16", CPU)
    assert "query_tokens" in opt
    assert any(name.startswith("qformer.encoder") for name in opt)
    assert not any(name.startswith("language_model") for name in opt)
    assert any(name.endswith("DenseReluDense.wo.weight") for name in t5)
    assert not fp32_names(OPT, "bf16", CPU)
    assert not fp32_names(OPT, "int8", CPU)  # with bf16
    assert fp32_names(OPT, "int8", CUDA) == opt  # with fp16


def test_t5_is_kept_out_of_fp16_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    t5 = skeleton(blip2(T5), Blip2ForConditionalGeneration)
    opt = skeleton(blip2(OPT), Blip2ForConditionalGeneration)
    assert half_type(t5, CUDA) == torch.bfloat16
    assert half_type(opt, CUDA) == torch.float16
    check_available("fp16", opt)
    assert not caplog.records
    check_available("fp16", t5)
    assert "overflow" in caplog.text


def random_linear(outs: int, ins: int) -> tuple[nn.Linear, Int8Linear]:
    plain = nn.Linear(ins, outs)
    return plain, Int8Linear(*quantize(plain.weight.detach()), plain.bias)


@torch.inference_mode()
def test_a_row_in_eight_bits_is_the_same_beside_any_other() -> None:
    torch.manual_seed(2)
    _, linear = random_linear(96, 64)
    rows = torch.randn(16, 64)
    alone = linear(rows[:8])
    # Other rows that are all outliers, and rows of zeros.
    rows[8:12] = 40 * OUTLIER
    rows[12:] = 0
    assert torch.equal(linear(rows)[:8], alone)
    assert torch.equal(linear(rows.view(4, 4, 64)).view(16, 96)[:8], alone)


@torch.inference_mode()
def test_a_large_value_does_not_coarsen_what_stands_beside_it_in_a_row() -> None:
    torch.manual_seed(3)
    plain, linear = random_linear(96, 64)
    rows = torch.randn(16, 64)
    rows[0, 5], rows[1] = 500, 0
    assert quantize(rows[1:2])[1] > 0  # 0 / 0 has no code
    exact, computed = plain(rows), linear(rows)
    error = (computed - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 0.02
    assert error[1] < 1e-6
    # The outlier dominates row 0; without its share the error of the other values shows.
    rows[0, 5] = 0
    others = plain(rows[:1])
    share = computed[0] - 500 * linear._columns(torch.tensor([5]), torch.float32)[:, 0]
    assert (share - others[0]).norm() / others.norm() < 0.02


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    return {name: as_generator(load(str(DEMO_MODEL), name, "cpu")) for name in PRECISIONS}


@pytest.fixture(scope="module")
def requests() -> tuple[list[Request], list[str]]:
    """Requests about held-out scenes, and their true answers."""
    requests, truths = [], []
    for number, row in enumerate(held_out(2, seed=5)):
        pixels = row.picture.convert("RGB").resize((64, 64), 3).tobytes()
        words = row.prompt.removeprefix("Question: ").removesuffix(" Answer:")
        task = "caption" if words == row.prompt else "vqa"
        requests.append(Request(number, task, f"image {number}", pixels, words))
        truths.append(row.expected)
    return requests, truths


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_demo_model_answers_in_every_precision(
    demo: dict[str, Any], requests: tuple[list[Request], list[str]], precision: str
) -> None:
    batch, truths = requests
    engine, answers = Engine(demo[precision], max_rows=32), {}
    for request in batch:
        engine.add(request)
    while not engine.idle:
        answers.update({answer.id: answer.text for answer in engine.step()})
    right = sum(answers[number] == truth for number, truth in enumerate(truths))
    assert right / len(truths) > 0.95


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_of_a_row_in_a_batch_are_those_of_the_row_alone(
    demo: dict[str, Any], requests: tuple[list[Request], list[str]], precision: str
) -> None:
    model = demo[precision]

    def logits(some: list[Request]) -> torch.Tensor:
        joined = bytearray().join(request.pixels or b"" for request in some)
        pixels = torch.frombuffer(joined, dtype=torch.uint8).view(len(some), 64, 64, 3)
        prompts = [model.prompt(request) for request in some]
        slots = model.decoder.new_slots(len(some))
        first = model.decoder.prefill(model.encode(pixels), prompts, slots)
        slots.tokens[:] = first.argmax(1)
        return torch.cat([first, model.decoder.decode(slots, 0, len(some))], 1).float()

    some = Random(4).sample(requests[0], 6)
    together, alone = logits(some), torch.cat([logits([request]) for request in some])
    error = (together - alone).norm(dim=1) / alone.norm(dim=1)
    if precision == "fp32":
        assert error.max() < 1e-5
    else:
        # Rounding of a half-precision type, also in int8 and int4. bitsandbytes' own int8, in which
        # rows affect each other, has an error of 0.006 on average and 0.02 at most.
        assert error.max() < 0.01
        assert error.mean() < 0.003


def test_a_precision_has_a_revision_of_its_own_each_time_the_same(demo: dict[str, Any]) -> None:
    assert len({model.revision for model in demo.values()}) == len(PRECISIONS)
    for precision in ("int8", "int4"):
        assert load(str(DEMO_MODEL), precision, "cpu").revision == demo[precision].revision


def test_int8_logs_nothing(
    requests: tuple[list[Request], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model = as_generator(load(str(DEMO_MODEL), "int8", "cpu"))
        assert model is not None
        model.encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_without_a_package_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, precision: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LoadError, match=r"install the packages of requirements\.txt, or use bf16"):
        load(str(DEMO_MODEL), precision, "cpu")


def test_half_precision_needs_no_more_than_torch_and_transformers(
    monkeypatch: pytest.MonkeyPatch, demo: dict[str, Any]
) -> None:
    for package in ("bitsandbytes", "accelerate"):
        monkeypatch.setitem(sys.modules, package, None)
    assert load(str(DEMO_MODEL), "fp16", "cpu").revision == demo["fp16"].revision


def test_a_model_that_does_not_fit_is_rejected_with_the_precisions_that_fit() -> None:
    empty = skeleton(blip2(OPT), Blip2ForConditionalGeneration)
    needed = {
        name: estimate_plan(empty, make_plan(empty, name, CPU)).least_bytes for name in PRECISIONS
    }
    check_fits("m", empty, "fp32", CPU, free=lambda device: needed["fp32"])
    with pytest.raises(LoadError, match=r"needs .* in fp32, and cpu has .* that fit: bf16"):
        check_fits("m", empty, "fp32", CPU, free=lambda device: needed["fp32"] - 1)
    with pytest.raises(LoadError, match=r"that fit: none\.$"):
        check_fits("m", empty, "int4", CPU, free=lambda device: 1000)
