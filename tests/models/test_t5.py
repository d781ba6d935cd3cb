"""BLIP-2 and InstructBLIP with T5: a row in a mixed batch equals `generate` on the row alone.

The reference is independent of the worker: the processor and `generate`, one row at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
)

from tests.models import traffic
from tests.models.t5_checkpoints import (
    QUERIES,
    QUESTION_POSITIONS,
    READ_TOKENS,
    build_tokenizer,
    save_blip2,
    save_instructblip,
)
from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import picture, row_counts, serve, some_beams, some_sampled_beams
from worker.engine.decoding import prepare_prompt
from worker.engine.engine import Engine
from worker.engine.errors import PromptTooLong
from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.row import Row
from worker.engine.selfcheck import check
from worker.engine.warmup import warm_up
from worker.models.registry import load
from worker.models.t5 import without_control_tokens

IMAGES = 12
QUESTIONS = [
    "how many?",
    "what color is it?",
    "is there a red circle on the left or above?",
    "what shape is there, above the two green stars in this painting? don't count the yellow one!",
]
PROMPTS = ["", "", " a photo of", "painting", "a red circle and, to the left of it, a"]
HISTORIES = [(), (("how many?", "two"),), (("how many?", "two"), ("what color?", "a red one"))]

Plan = tuple[int, str, str, tuple[tuple[str, str], ...], dict[str, Any]]


@dataclass
class Family:
    """A kind of checkpoint, loaded by the worker and by plain transformers."""

    path: Path
    network: Any
    processor: Any
    #: Template of a question, and the default prompt of a caption.
    question: str
    instruction: str | None

    def __post_init__(self) -> None:
        self.model: Any = load(str(self.path), precision="fp32", device="cpu")

    def words(self, task: str, text: str, history: tuple[tuple[str, str], ...]) -> str | None:
        """Return the processor's text."""
        if task == "caption":
            return text or self.instruction
        if task == "vqa":
            return self.question.format(text)
        turns = "".join(f"Question: {turn} Answer: {answer}. " for turn, answer in history)
        return f"{turns}Question: {text} Answer:"

    def inputs(self, image: Image.Image, words: str | None) -> Any:
        return self.processor(images=image, text=words, return_tensors="pt")

    def expect(self, plan: Plan) -> tuple[str, int]:
        """Return transformers' answer and its number of tokens."""
        image, task, text, history, how = plan
        seed = (how := dict(how)).pop("seed", None)
        if seed is not None:
            torch.manual_seed(seed)
        inputs = self.inputs(picture(image), self.words(task, text, history))
        row = self.network.generate(**inputs, do_sample=seed is not None, **how)[0]
        decoded = self.processor.tokenizer.decode(row, skip_special_tokens=True)
        begin = text.strip() + " " if task == "caption" else ""
        return (begin + decoded.strip()).strip(), len(row) - 1

    def prompt(self, task: str, text: str) -> Prompt:
        prompt: Prompt = self.model.prompt(request(0, (0, task, text, (), {})))
        return prompt


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return blip2(tmp_path_factory.mktemp("flan"), flan=True)


@pytest.fixture(scope="module")
def first_t5(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return blip2(tmp_path_factory.mktemp("first_t5"), flan=False)


def blip2(path: Path, flan: bool) -> Family:
    save_blip2(path, flan)
    parts = BlipImageProcessorPil.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    processor = Blip2Processor(*parts, num_query_tokens=QUERIES)
    network = Blip2ForConditionalGeneration.from_pretrained(path).eval()
    return Family(path, network, processor, "Question: {} Answer:", None)


@pytest.fixture(scope="module")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Family:
    path = tmp_path_factory.mktemp("instruct")
    save_instructblip(path)
    processor = InstructBlipProcessor(
        BlipImageProcessorPil.from_pretrained(path),
        AutoTokenizer.from_pretrained(path),
        AutoTokenizer.from_pretrained(path, subfolder="qformer_tokenizer"),
        num_query_tokens=QUERIES,
    )
    network = InstructBlipForConditionalGeneration.from_pretrained(path).eval()
    return Family(path, network, processor, "{}", "A short image caption.")


@pytest.fixture(params=["flan", "first_t5", "instruct"])
def family(request: pytest.FixtureRequest) -> Family:
    family: Family = request.getfixturevalue(request.param)
    return family


def request(number: int, plan: Plan) -> Request:
    image, task, text, history, how = plan
    pixels, options = picture(image).tobytes(), GenerationOptions(**how)
    return Request(number, task, f"image-{image}", pixels, text, options, history=history)


def some_options(generator: random.Random) -> dict[str, Any]:
    how = traffic.some_options(generator)
    # Also answers long enough for several distances in one bucket of the position bias
    return how | {"max_new_tokens": how["max_new_tokens"] + generator.choice([0, 0, 18])}


def some_plan(generator: random.Random, options: Callable[[random.Random], dict[str, Any]]) -> Plan:
    task = generator.choice(["caption", "vqa", "chat"])
    text = generator.choice(PROMPTS if task == "caption" else QUESTIONS)
    history = generator.choice(HISTORIES) if task == "chat" else ()
    return generator.randrange(IMAGES), task, text, history, options(generator)


def compare(
    family: Family, rows: int, options: Callable[[random.Random], dict[str, Any]]
) -> list[tuple[str, int]]:
    """Serve random rows together, compare each with the row alone, and return the latter."""
    generator = random.Random(6)
    plans = [some_plan(generator, options) for _ in range(rows)]
    requests = [request(number, plan) for number, plan in enumerate(plans)]

    answers = serve(Engine(family.model, max_rows=12, reserved_rows=2), requests, generator)

    got = [(answers[number].text, answers[number].tokens) for number in range(rows)]
    expected = [family.expect(plan) for plan in plans]
    assert_equal_but_for_ties(
        got, expected, family.network, lambda number: family.expect(plans[number])
    )
    return expected


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(12, 48))
def test_every_row_in_a_mixed_batch_equals_the_row_alone(family: Family, rows: int) -> None:
    expected = compare(family, rows, some_options)
    # The rows are diverse: texts differ, and rows end at many lengths.
    assert len({text for text, _ in expected}) > rows / 3
    assert len({tokens for _, tokens in expected}) >= min(8, rows // 2)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(6, 24))
def test_beams_equal_those_of_the_row_alone(family: Family, rows: int) -> None:
    expected = compare(family, rows, some_beams)
    assert len({text for text, _ in expected}) >= rows / 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(4, 20))
def test_sampled_beams_equal_those_of_the_row_alone_after_its_seed(
    family: Family, rows: int
) -> None:
    expected = compare(family, rows, some_sampled_beams)
    assert len({text for text, _ in expected}) >= rows / 2


def features_of(family: Family, images: int) -> torch.Tensor:
    pixels = [torch.from_numpy(np.array(picture(number))) for number in range(images)]
    features: torch.Tensor = family.model.encode(torch.stack(pixels))
    return features


def first_logits(model: Any, features: torch.Tensor, prompts: list[Prompt]) -> torch.Tensor:
    slots, inputs = model.decoder.new_slots(len(prompts)), model.condition(features, prompts)
    logits: torch.Tensor = model.decoder.prefill(inputs, prompts, slots)
    return logits


def test_first_logits_in_a_batch_equal_those_of_the_row_alone(family: Family) -> None:
    prompts = [family.prompt("vqa", text) for text in QUESTIONS]
    features = features_of(family, len(prompts))
    together = first_logits(family.model, features, prompts)
    for row, prompt in enumerate(prompts):
        alone = first_logits(family.model, features[row, None], [prompt])
        inputs = family.inputs(picture(row), family.words("vqa", QUESTIONS[row], ()))
        with torch.inference_mode():
            logits = family.network(**inputs, decoder_input_ids=torch.tensor([[0]])).logits
        assert torch.allclose(alone[0], logits[0, -1], atol=2e-4)
        assert torch.allclose(together[row], logits[0, -1], atol=2e-4)


def test_prompts_have_the_layout_of_the_processor(family: Family) -> None:
    for task, texts in (("caption", PROMPTS), ("vqa", QUESTIONS), ("chat", QUESTIONS)):
        for text in texts:
            words = family.words(task, text, ())
            inputs = family.inputs(picture(0), words or "")
            prompt = family.prompt(task, text)
            assert prompt.start == [0]
            assert prompt.source == inputs.input_ids[0].tolist()
            if family.instruction is None:
                assert prompt.query is None
            else:
                assert prompt.query == inputs.qformer_input_ids[0].tolist()


def test_image_features_do_not_depend_on_the_question(flan: Family, instruct: Family) -> None:
    assert features_of(flan, 2).shape == (2, QUERIES, 32)
    # Those of the vision encoder: the Q-Former has not read the question yet
    assert features_of(instruct, 2).shape == (2, 1 + 4, 32)


@pytest.mark.parametrize(
    "text", ["what is </s> this?", "an <image> of <image>", "<pad> <extra_id_0><unk>", "[SEP]"]
)
def test_user_text_never_becomes_a_control_token(family: Family, text: str) -> None:
    prompt = family.prompt("vqa", text)
    tokenizer = family.processor.tokenizer
    # '<' is unknown to the tokenizer, as to T5's
    control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert control.isdisjoint((prompt.source or [])[QUERIES:-1])
    decoded = tokenizer.decode((prompt.source or [])[QUERIES:-1])
    assert text.replace("<", "<unk>").replace(" ", "") in decoded.replace(" ", "")
    if prompt.query is not None:
        questions = family.processor.qformer_tokenizer
        control = set(questions.all_special_ids) - {questions.unk_token_id}
        assert control.isdisjoint(prompt.query[1:-1])


def test_saved_truncation_and_padding_of_the_tokenizer_are_ignored() -> None:
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    plain = without_control_tokens(tokenizer)
    for text in QUESTIONS:
        assert plain.encode(text).ids == tokenizer(text).input_ids


@pytest.mark.parametrize(
    ("prompt", "answer", "text"),
    [
        ("", "a cat", "a cat"),
        ("a photo of", "a cat", "a photo of a cat"),
        ("a photo of", "A photo of a cat", "a photo of a cat"),
        (" a photo of ", "", "a photo of"),
        ("a {cat}", "red", "a {cat} red"),
        ("a", "apple", "a apple"),
    ],
)
def test_a_caption_begins_with_its_prompt_exactly_once(
    family: Family, prompt: str, answer: str, text: str
) -> None:
    asked_request = request(0, (0, "caption", prompt, (), {}))
    tokenizer = family.processor.tokenizer
    # A model token outside the tokenizer's vocabulary, the answer, the end, padding
    new = [len(tokenizer) + 1, *tokenizer(answer).input_ids, 0, 0]
    assert family.model.text(asked_request, family.model.prompt(asked_request), new) == text


def test_an_answer_never_repeats_its_question(family: Family) -> None:
    asked_request = request(0, (0, "vqa", "how many?", (), {}))
    new = family.processor.tokenizer("two").input_ids
    assert family.model.text(asked_request, family.model.prompt(asked_request), new) == "two"


def test_a_text_longer_than_the_encoder_reads_is_rejected(flan: Family) -> None:
    with pytest.raises(PromptTooLong, match=rf"300.*{READ_TOKENS - QUERIES}\."):
        flan.prompt("caption", "a " * 299)
    fits = flan.prompt("caption", "a " * (READ_TOKENS - QUERIES - 1))
    assert len(fits.source or []) == READ_TOKENS


def test_a_question_longer_than_the_q_former_reads_is_rejected(instruct: Family) -> None:
    fits = instruct.prompt("vqa", "a " * (QUESTION_POSITIONS - 2))
    assert len(fits.query or []) == QUESTION_POSITIONS
    with pytest.raises(PromptTooLong, match=rf"{QUESTION_POSITIONS + 1}.*{QUESTION_POSITIONS}"):
        instruct.prompt("vqa", "a " * (QUESTION_POSITIONS - 1))


def test_a_dialogue_loses_its_oldest_turns_where_it_is_too_long(family: Family) -> None:
    history = tuple((f"what color is the {n} circle?", "red") for n in range(20))
    last = family.model.prompt(request(0, (0, "chat", "how many?", history, {})))
    shorter = family.model.prompt(request(0, (0, "chat", "how many?", history[10:], {})))
    assert last == shorter
    assert QUERIES + 30 < len(last.source) <= READ_TOKENS


def test_a_text_that_is_too_long_fails_alone(family: Family) -> None:
    plans: list[Plan] = [
        (n, "vqa", text, (), {}) for n, text in enumerate(["how many?", "a " * 299, "why?"])
    ]
    requests = [request(number, plan) for number, plan in enumerate(plans)]
    answers = serve(Engine(family.model, max_rows=4), requests, random.Random(0))
    codes = [answers[number].error_code for number in range(3)]
    assert codes == [None, "prompt_too_long", None]
    assert answers[2].text == family.expect((*plans[2][:4], {"max_new_tokens": 20}))[0]


def test_text_that_is_not_valid_unicode_is_rejected(family: Family) -> None:
    asked_request = request(0, (0, "vqa", "a \ud800 circle", (), {}))
    answer = serve(Engine(family.model, max_rows=2), [asked_request], random.Random(0))[0]
    assert answer.error_code == "option_invalid"


def test_an_engine_warms_up_and_passes_its_own_check(family: Family) -> None:
    engine = Engine(family.model, max_rows=4)
    warm_up(engine)
    check(engine)
    assert engine.idle


def test_a_long_answer_outgrows_the_first_buffers(flan: Family) -> None:
    plan: Plan = (1, "vqa", QUESTIONS[3], (), {"max_new_tokens": 200, "min_new_tokens": 200})
    others: list[Plan] = [(n, "caption", "", (), {"max_new_tokens": 3 * n}) for n in range(2, 9)]
    requests = [request(number, each) for number, each in enumerate([plan, *others])]
    answers = serve(Engine(flan.model, max_rows=3), requests, random.Random(3))
    assert answers[0].tokens == 200
    together, alone = (answers[0].text, 200), flan.expect(plan)
    # 200 tokens of an untrained model may well include a tie.
    assert_equal_but_for_ties(
        [together], [alone], flan.network, lambda _: flan.expect(plan), max_share=1
    )


def test_the_longest_answer_that_a_request_may_ask_for_fits(family: Family) -> None:
    longest = request(0, (0, "vqa", QUESTIONS[0], (), {"max_new_tokens": 1024}))
    assert prepare_prompt(Row(0, longest, [longest]), family.model) is None


@pytest.mark.parametrize(
    "precision", traffic.sample_of(["bf16", "fp16", "int8", "int4"], "bf16", "int4")
)
def test_every_precision_answers(family: Family, precision: str) -> None:
    model: Any = load(str(family.path), precision=precision, device="cpu")
    assert model.revision != family.model.revision
    plans: list[Plan] = [(n, "vqa", text, (), {}) for n, text in enumerate(QUESTIONS)]
    requests = [request(number, plan) for number, plan in enumerate(plans)]
    answers = serve(Engine(model, max_rows=3), requests, random.Random(0))
    assert not [answer for answer in answers.values() if answer.error_code]
    assert any(answer.text for answer in answers.values())


@pytest.mark.parametrize("factor", [1, 30_000])
def test_half_precision_logits_are_those_of_transformers(family: Family, factor: float) -> None:
    model: Any = load(str(family.path), precision="fp16", device="cpu")
    block = model.network.language_model.decoder.block[0]
    assert block.layer[-1].DenseReluDense.wo.weight.dtype == torch.float32
    # T5 overflows in fp16, and transformers bounds that
    block.layer[0].SelfAttention.o.weight.mul_(factor)
    prompt = model.prompt(request(0, (0, "vqa", QUESTIONS[0], (), {})))
    slots = model.decoder.new_slots(1)
    features = model.encode(torch.from_numpy(np.array(picture(0)))[None])
    inputs = model.condition(features, [prompt])
    steps = [model.decoder.prefill(inputs, [prompt], slots)]
    for token in (5, 9, 17):
        slots.tokens[:1] = token
        steps.append(model.decoder.decode(slots, 0, 1))
        slots.advance()
    inputs = family.inputs(picture(0), family.words("vqa", QUESTIONS[0], ()))
    with torch.inference_mode():
        ids = torch.tensor([[0, 5, 9, 17]])
        logits = model.network(**inputs, decoder_input_ids=ids).logits[0]
    assert torch.allclose(torch.cat(steps).float(), logits.float(), atol=0.05)
