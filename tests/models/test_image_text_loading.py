"""Loading, refusals and self-checks of models in the grouped lane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BertConfig

from tests.engine.workload import Clock, Proxy, codes, run
from tests.models.image_text_checkpoints import save_llava, save_qwen2_vl, save_vit_gpt2
from worker.engine.engine import Engine
from worker.engine.errors import LoadError
from worker.engine.model import GroupInputs
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.hub.resolver import resolve
from worker.info import describe, report
from worker.models.checkpoint import read_config
from worker.models.image_text.row_scores import FiniteScores, UnpaddedPenalties
from worker.models.registry import GROUPED, default_precision, find_family, load

SHORT = GenerationOptions(max_new_tokens=4)


def ppm(width: int, height: int) -> bytes:
    image = Image.new("RGB", (width, height), (200, 60, 20))
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


def ask(number: int, text: str = "", size: tuple[int, int] = (40, 30), **fields: Any) -> Request:
    task = fields.pop("task", "vqa" if text else "caption")
    options = fields.pop("options", SHORT)
    return Request(number, task, f"image-{size}", ppm(*size), text, options, **fields)


def with_methods(model: Any, **methods: Any) -> Any:
    """Replace methods of a model."""
    return Proxy(model, methods)


def edit(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | changes))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava")
    save_llava(path)
    return path


@pytest.fixture(scope="module")
def model(llava: Path) -> Any:
    return load(str(llava), device="cpu", image_side=96)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(model: Any, clock: Clock) -> Engine:
    return Engine(None, None, model, max_rows=8, clock=clock)


def test_a_prompt_that_is_too_long_fails_by_itself(engine: Engine) -> None:
    answers = run(engine, ask(1, "what?"), ask(2, "why " * 200), ask(3, "who?"))
    assert codes(answers) == [None, "prompt_too_long", None]
    assert "the model has 512 positions" in answers[2].error_message
    long = GenerationOptions(max_new_tokens=600)
    assert codes(run(engine, ask(1, options=long))) == ["prompt_too_long"]


def test_scores_stop_texts_and_banned_words_are_those_of_transformers(
    engine: Engine, model: Any
) -> None:
    inputs, tokenizer = model.collate([ask(1)]), model.processor.tokenizer
    long: dict[str, Any] = {"max_new_tokens": 9, "output_scores": True}

    def expect(**options: Any) -> tuple[tuple[int, ...], Any]:
        output = model.network.generate(
            **inputs.arguments, do_sample=False, return_dict_in_generate=True, **long, **options
        )
        (logprobs,) = model.network.compute_transition_scores(
            output.sequences, output.scores, normalize_logits=True
        )
        tokens = tuple(output.sequences[0, inputs.lengths[0] :].tolist())
        return tokens, pytest.approx(logprobs.tolist(), abs=1e-4)

    def answer(**options: Any) -> Any:
        (sequence,) = run(engine, ask(1, options=GenerationOptions(**long, **options)))[1].sequences
        return sequence

    # Given a word within the plain answer
    plain = answer(min_new_tokens=9)
    assert (plain.tokens, plain.logprobs) == expect(min_new_tokens=9)
    word = next(text for text in plain.token_texts[1:-1] if text.isascii() and text.isprintable())
    # Then a stop text ends the answer with it
    stopped = answer(stop=(word,))
    assert (stopped.tokens, stopped.logprobs) == expect(stop_strings=[word], tokenizer=tokenizer)
    assert len(stopped.tokens) < len(plain.tokens)
    assert stopped.is_complete
    # And an answer without it is another one
    banned = answer(bad_words=(word,))
    ids = tokenizer([word, f" {word}"], add_special_tokens=False).input_ids
    assert (banned.tokens, banned.logprobs) == expect(bad_words_ids=ids)
    assert word not in banned.text


@pytest.mark.parametrize(
    ("name", "options"),
    [("max_length", {"max_length": 90}), ("min_length", {"min_length": 90, "max_new_tokens": 99})],
)
def test_an_option_of_other_models_is_refused_by_name(
    engine: Engine, name: str, options: dict[str, Any]
) -> None:
    (answer,) = run(engine, ask(1, options=GenerationOptions(**options))).values()
    assert answer.error_code == "option_invalid"
    assert answer.error_message.startswith(f"{name}: this model does not offer it")


def test_a_deadline_ends_a_row_of_a_running_group(engine: Engine, clock: Clock) -> None:
    long = GenerationOptions(max_new_tokens=12, min_new_tokens=12)
    engine.add(ask(1, deadline=5.0, options=long))
    engine.add(ask(2, size=(20, 20), options=long))
    engine.step()
    clock.now = 6.0
    assert codes(run(engine)) == ["deadline_exceeded", None]


def test_a_group_that_exceeds_the_memory_is_halved(model: Any) -> None:
    sizes = []

    def generate(inputs: GroupInputs, *rest: Any) -> Any:
        sizes.append(len(inputs.prompts))
        if len(inputs.prompts) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return model.generate(inputs, *rest)

    engine = Engine(None, None, with_methods(model, generate=generate))
    answers = run(engine, *(ask(n, "what is this?"[: n + 3]) for n in range(5)))
    assert codes(answers) == [None] * 5
    assert sizes == [5, 2, 3, 1, 2]
    assert answers[4].text == run(Engine(None, None, model), ask(4, "what is"))[4].text


def test_logits_that_are_not_finite_fail_one_row() -> None:
    finite, scores = FiniteScores(2, 1, torch.device("cpu")), torch.zeros(2, 4)
    scores[1, 2] = torch.nan
    scores[0, 1] = -torch.inf  # a masked token
    out = finite(torch.zeros(2, 1), scores)
    assert finite.failed.tolist() == [False, True]
    assert not out.isnan().any()


def test_padding_does_not_count_as_repeated() -> None:
    options = GenerationOptions(repetition_penalty=2.0, no_repeat_ngram_size=1)
    padded = UnpaddedPenalties(options, [2, 0])
    ids = torch.tensor([[0, 0, 3], [1, 2, 3]])
    scores = padded(ids, torch.ones(2, 5))
    assert scores[0].tolist() == [1, 1, 1, -torch.inf, 1]
    assert scores[1].tolist() == [1, -torch.inf, -torch.inf, -torch.inf, 1]


def test_a_model_whose_rows_read_their_padding_runs_row_by_row(model: Any) -> None:
    def collate(requests: list[Request]) -> GroupInputs:
        inputs = model.collate(requests)
        mask = torch.ones_like(inputs.arguments["attention_mask"])
        return GroupInputs({**inputs.arguments, "attention_mask": mask}, inputs.prompts)

    engine = Engine(None, None, with_methods(model, collate=collate))
    assert engine.generating is not None
    check(engine)
    assert engine.generating.group_rows == 1
    engine.add(ask(1))
    engine.add(ask(2, "what?"))
    engine.step()
    assert (engine.generating.active, engine.generating.waiting) == (1, 1)


def test_a_model_that_computes_nan_does_not_start(model: Any) -> None:
    def generate(inputs: GroupInputs, *rest: Any) -> Any:
        return [[]] * len(inputs.prompts)

    with pytest.raises(LoadError, match=r"fails on a sample image: .* is not finite"):
        check(Engine(None, None, with_methods(model, generate=generate)))


def test_a_model_without_prompts_offers_captions_alone(tmp_path: Path) -> None:
    save_vit_gpt2(tmp_path)
    model: Any = load(str(tmp_path), device="cpu", image_side=96)
    assert model.tasks == {"caption"}
    engine = Engine(None, None, model)
    answers = run(engine, ask(1), ask(2, "a photo", task="caption"), ask(3, "what?"))
    assert codes(answers) == [None, "option_invalid", "unsupported_task"]
    assert answers[2].error_message == "This model reads no text; omit the prompt."


def test_an_image_that_the_processor_refuses_fails_by_itself(tmp_path: Path) -> None:
    save_qwen2_vl(tmp_path)
    engine = Engine(None, None, load(str(tmp_path), device="cpu"))  # type: ignore[arg-type]
    answers = run(engine, ask(1), ask(2, size=(900, 2)), ask(3))
    assert codes(answers) == [None, "image_invalid", None]
    assert "aspect ratio" in answers[2].error_message


def test_a_model_without_a_chat_template_reads_the_text_after_the_image(tmp_path: Path) -> None:
    save_llava(tmp_path, template=False)
    model: Any = load(str(tmp_path), device="cpu", image_side=96)
    assert model.tasks == {"caption", "vqa"}
    assert model.prompts.text(ask(1, "what?")) == "<image>\nwhat?"
    assert codes(run(Engine(None, None, model), ask(1), ask(2, "what?"))) == [None, None]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_answer(llava: Path, precision: str) -> None:
    model: Any = load(str(llava), precision, "cpu", image_side=96)
    check(Engine(None, None, model))
    plain: Any = load(str(llava), device="cpu", image_side=96)
    assert model.revision != plain.revision


def test_another_image_backend_than_that_of_its_processor_is_refused(llava: Path) -> None:
    assert load(str(llava), device="cpu", image_backend="pil").image_backend == "pil"
    with pytest.raises(LoadError, match="resizes images itself, with the backend 'pil'"):
        load(str(llava), device="cpu", image_backend="torchvision")


def test_its_configuration_alone_is_reported(llava: Path) -> None:
    facts = describe(resolve(str(llava)), "cpu", 10**9)
    assert (facts["tasks"], facts["image_size"]) == (["caption", "vqa"], None)
    first = facts["precisions"][0]
    assert first["weight_bytes"] >= 4 * facts["parameters"]
    # Keys and values of two heads of 8 in two layers
    assert (first["token_bytes"], first["rows"], first["fits"]) == (2 * 2 * 2 * 8 * 4, None, True)
    assert "LlavaForConditionalGeneration, in groups" in report(facts)


def test_the_automatic_precision_is_the_one_of_the_training(llava: Path) -> None:
    config = read_config(resolve(str(llava)))
    assert find_family("llava", config) is GROUPED
    assert default_precision(config, torch.device("cuda")) == "bf16"


def test_a_model_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    with pytest.raises(LoadError, match="is BertForMaskedLM of type bert, which generates no text"):
        load(str(tmp_path))


def test_code_of_a_repository_never_runs(llava: Path, tmp_path: Path) -> None:
    for path in llava.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit(tmp_path / "config.json", model_type="florence9", auto_map={"AutoConfig": "code.Config"})
    (tmp_path / "code.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(LoadError, match=r"auto_map in config\.json.*never runs"):
        load(str(tmp_path))
