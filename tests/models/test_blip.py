"""BLIP captioning and VQA: a row in a mixed batch equals `generate` on the row alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BlipForConditionalGeneration, BlipForQuestionAnswering

from tests.models.blip_checkpoints import (
    IMAGE_SIZE,
    POSITIONS,
    Reference,
    picture,
    save_caption,
    save_vqa,
)
from tests.models.ties import assert_equal_but_for_ties
from tests.models.traffic import row_counts, serve, some_beams, some_sampled_beams
from worker.engine.engine import Engine
from worker.engine.errors import PromptTooLong
from worker.engine.model import Prompt
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.engine.warmup import warm_up
from worker.models.registry import load

IMAGES = 12
QUESTIONS = [
    "",
    "how many?",
    "what color is it?",
    "Is there a red circle on the left of the photo?",
    "what shape is there, above the two green stars in this painting? don't count the yellow one!",
    # Longer than a slot is at first
    "is there a circle, and a square, and a star? " * 5,
]
PROMPTS = [
    "",
    "",
    "a photo of",
    "painting",
    "a red circle and, to the left of it, a",
    "a star, " * 22,
]


class Family:
    """A kind of checkpoint, loaded by the worker and by plain transformers."""

    def __init__(self, reference: Reference, texts: list[str]) -> None:
        self.reference, self.texts = reference, texts
        self.task, self.path, self.processor = reference.task, reference.path, reference.processor
        self.model: Any = load(str(self.path), precision="fp32", device="cpu")

    def request(self, number: int, image: int, text: str, **how: Any) -> Request:
        options = GenerationOptions(**how)
        pixels = picture(image).tobytes()
        return Request(number, self.task, f"image-{image}", pixels, text, options)

    def new_row(self, text: str) -> Prompt:
        prompt: Prompt = self.model.prompt(self.request(0, 0, text))
        return prompt

    def features(self, *images: int) -> torch.Tensor:
        pixels = [
            torch.frombuffer(bytearray(picture(i).tobytes()), dtype=torch.uint8) for i in images
        ]
        features: torch.Tensor = self.model.encode(
            torch.stack(pixels).view(-1, IMAGE_SIZE, IMAGE_SIZE, 3)
        )
        return features


@pytest.fixture(scope="module")
def caption(tmp_path_factory: pytest.TempPathFactory) -> Family:
    path = tmp_path_factory.mktemp("caption")
    save_caption(path)
    return Family(Reference(BlipForConditionalGeneration, path), PROMPTS)


@pytest.fixture(scope="module")
def vqa(tmp_path_factory: pytest.TempPathFactory) -> Family:
    path = tmp_path_factory.mktemp("vqa")
    save_vqa(path)
    return Family(Reference(BlipForQuestionAnswering, path), QUESTIONS)


@pytest.fixture(params=["caption", "vqa"])
def family(request: pytest.FixtureRequest) -> Family:
    family: Family = request.getfixturevalue(request.param)
    return family


def some_options(generator: random.Random) -> dict[str, Any]:
    how: dict[str, Any] = {"max_new_tokens": generator.choice([1, 2, 4, 7, 12])}
    kind = generator.randrange(5)
    if kind == 1:
        how |= {"repetition_penalty": 1.6, "no_repeat_ngram_size": generator.choice([0, 2])}
    if kind == 2:
        how |= {"no_repeat_ngram_size": generator.choice([1, 2, 3])}
    if kind in (2, 3):
        how |= {"min_new_tokens": min(how["max_new_tokens"], generator.choice([2, 5, 12]))}
    if kind == 4:
        how |= {
            "seed": generator.randrange(10_000),
            "temperature": generator.choice([0.7, 1.0, 1.4]),
            "top_k": generator.choice([0, 3, 40]),
            "top_p": generator.choice([0.5, 0.9, 1.0]),
            "repetition_penalty": generator.choice([1.0, 1.3]),
        }
    return how


def compare(
    family: Family, rows: int, options: Callable[[random.Random], dict[str, Any]]
) -> list[tuple[str, int]]:
    """Serve random rows together, compare each with the row alone, and return the latter."""
    generator = random.Random(11)
    plans = [
        (generator.randrange(IMAGES), generator.choice(family.texts), options(generator))
        for _ in range(rows)
    ]
    requests = [
        family.request(number, image, text, **how)
        for number, (image, text, how) in enumerate(plans)
    ]

    answers = serve(Engine(family.model, max_rows=12, reserved_rows=2), requests, generator)

    got = [(answers[number].text, answers[number].tokens) for number in range(rows)]

    def alone(number: int) -> tuple[str, int]:
        image, text, how = plans[number]
        return family.reference.answer(picture(image), text, how)

    expected = [alone(number) for number in range(rows)]
    assert_equal_but_for_ties(got, expected, family.reference.network, alone)
    return expected


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(30, 96))
def test_every_row_in_a_mixed_batch_equals_the_row_alone(family: Family, rows: int) -> None:
    expected = compare(family, rows, some_options)
    # The rows are diverse: texts differ, and rows end at many lengths.
    assert len({text for text, _ in expected}) > rows / 3
    assert len({tokens for _, tokens in expected}) >= min(6, rows // 6)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(6, 24))
def test_beams_equal_those_of_the_row_alone(family: Family, rows: int) -> None:
    expected = compare(family, rows, some_beams)
    assert len({text for text, _ in expected}) > rows / 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rows", row_counts(6, 24))
def test_sampled_beams_equal_those_of_the_row_alone_after_its_seed(
    family: Family, rows: int
) -> None:
    expected = compare(family, rows, some_sampled_beams)
    assert len({text for text, _ in expected}) > rows / 2


def first_logits(model: Any, features: torch.Tensor, prompts: list[Prompt]) -> torch.Tensor:
    slots, inputs = model.decoder.new_slots(len(prompts)), model.condition(features, prompts)
    logits: torch.Tensor = model.decoder.prefill(inputs, prompts, slots)
    return logits


def test_first_logits_in_a_batch_equal_those_of_the_row_alone(family: Family) -> None:
    features = family.features(*range(len(family.texts)))
    prompts = [family.new_row(text) for text in family.texts]
    together = first_logits(family.model, features, prompts)
    for row, prompt in enumerate(prompts):
        alone = first_logits(family.model, features[row, None], [prompt])
        assert torch.allclose(together[row], alone[0], atol=2e-4)


def test_a_caption_prompt_is_the_begin_of_text_and_words_without_an_end(caption: Family) -> None:
    begin = caption.reference.network.config.text_config.bos_token_id
    words = caption.processor(text="a photo of").input_ids
    assert caption.new_row("a photo of") == Prompt([begin, *words[1:-1]])
    assert caption.new_row("") == Prompt([begin])


def test_a_caption_begins_with_its_prompt(caption: Family) -> None:
    request = caption.request(0, 3, "a photo of", max_new_tokens=4, min_new_tokens=4)
    answer = serve(Engine(caption.model, max_rows=2), [request], random.Random(0))[0]
    assert answer.text.startswith("a photo of")
    assert len(answer.text) > len("a photo of")


def test_a_question_reaches_the_encoder_as_the_processor_makes_it(vqa: Family) -> None:
    begin = vqa.reference.network.config.text_config.bos_token_id
    for text in QUESTIONS:
        expected = vqa.processor(text=text).input_ids
        assert vqa.new_row(text) == Prompt([begin], source=expected)


def test_tokens_decode_to_the_text_of_the_processor(family: Family) -> None:
    generator, size = random.Random(2), family.model.decoder.vocab_size
    for length in (0, 1, 5, 30, 30, 30):
        new = [generator.randrange(size) for _ in range(length)]
        prompt = family.new_row("don't")
        row = [*prompt.start, *new] if family.task == "caption" else new
        expected = family.processor.decode(row, skip_special_tokens=True).strip()
        assert family.model.text(family.request(0, 0, "don't"), prompt, new) == expected


@pytest.mark.parametrize("text", ["what is [SEP] this?", "[PAD] [CLS]", "a [MASK] of [UNK]"])
def test_user_text_never_becomes_a_control_token(family: Family, text: str) -> None:
    prompt = family.new_row(text)
    ids = prompt.start[1:] if prompt.source is None else prompt.source[1:-1]
    tokenizer = family.processor.tokenizer
    assert set(tokenizer.all_special_ids).isdisjoint(ids)
    assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")


def test_a_question_longer_than_the_encoder_reads_is_rejected(vqa: Family) -> None:
    # Two tokens are [CLS] and [SEP]
    assert vqa.new_row("circle " * (POSITIONS - 2)).source is not None
    with pytest.raises(PromptTooLong, match=rf"{POSITIONS + 1}.*{POSITIONS}"):
        vqa.new_row("circle " * (POSITIONS - 1))


def test_a_prompt_that_is_too_long_is_rejected_beside_one_that_fits(caption: Family) -> None:
    texts = ["circle " * (POSITIONS - less) for less in (1, 8, 8)]
    new = [2, 8, 9]
    requests = [
        caption.request(number, number, text, max_new_tokens=new[number])
        for number, text in enumerate(texts)
    ]
    answers = serve(Engine(caption.model, max_rows=4), requests, random.Random(0))
    assert [answers[number].error_code for number in range(3)] == [
        "prompt_too_long",
        None,
        "prompt_too_long",
    ]
    for number, needed in ((0, POSITIONS), (2, POSITIONS - 7)):
        message = answers[number].error_message
        assert f"{needed} tokens" in message
        assert f"limit is {POSITIONS + 1}." in message


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}])
def test_a_row_may_use_every_position_as_its_last_token_needs_none(
    family: Family, how: dict[str, Any]
) -> None:
    prompts = (0,) if family.task == "vqa" else (0, POSITIONS - 2, POSITIONS - 1)
    rows = [("circle " * words, POSITIONS - words) for words in prompts]
    requests = [
        family.request(number, number, text, max_new_tokens=new, min_new_tokens=new, **how)
        for number, (text, new) in enumerate(rows)
    ]
    answers = serve(Engine(family.model, max_rows=4), requests, random.Random(1))

    def alone(number: int) -> tuple[str, int]:
        text, new = rows[number]
        options = {"max_new_tokens": new, "min_new_tokens": new, **how}
        return family.reference.answer(picture(number), text, options)

    got = [(answers[number].text, answers[number].tokens) for number in range(len(rows))]
    expected = [alone(number) for number in range(len(rows))]
    assert [tokens for _, tokens in expected] == [new for _, new in rows]
    assert_equal_but_for_ties(got, expected, family.reference.network, alone, max_share=1)


def test_text_that_is_not_valid_unicode_is_rejected(family: Family) -> None:
    request = family.request(0, 0, "a \ud800 circle")
    answer = serve(Engine(family.model, max_rows=2), [request], random.Random(0))[0]
    assert answer.error_code == "option_invalid"


def test_a_dialogue_is_not_offered(family: Family) -> None:
    request = family.request(0, 0, "why?")
    request.task = "chat"
    answer = serve(Engine(family.model, max_rows=2), [request], random.Random(0))[0]
    assert answer.error_code == "unsupported_task"


def test_bfloat16_answers(family: Family) -> None:
    model: Any = load(str(family.path), precision="bf16", device="cpu")
    assert model.decoder.new_slots(1).sources.dtype == torch.bfloat16
    assert model.revision != family.model.revision
    requests = [family.request(n, n, text) for n, text in enumerate(family.texts)]
    answers = serve(Engine(model, max_rows=3), requests, random.Random(0))
    assert not [answer for answer in answers.values() if answer.error_code]
    assert any(answer.text for answer in answers.values())


def test_generate_rejects_questions_of_different_lengths(vqa: Family) -> None:
    prompts = [vqa.new_row("how many?"), vqa.new_row("what color is it?")]
    inputs, options = (
        vqa.model.condition(vqa.features(0, 1), prompts),
        GenerationOptions(num_beams=3),
    )
    with pytest.raises(ValueError, match="padding"):
        vqa.model.decoder.generate(inputs, prompts, options, lambda: False)


def test_warm_up_and_self_check_pass(family: Family) -> None:
    engine = Engine(family.model, max_rows=6, reserved_rows=1)
    warm_up(engine)
    check(engine)
    assert engine.idle


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_equal_the_output_of_the_vision_model(family: Family, precision: str) -> None:
    model: Any = load(str(family.path), precision=precision, device="cpu")
    inputs = family.processor(images=picture(1), return_tensors="pt").pixel_values
    with torch.inference_mode():
        expected = model.network.vision_model(inputs).last_hidden_state
    pixels = torch.tensor(list(picture(1).tobytes()), dtype=torch.uint8)
    features = model.encode(pixels.view(1, IMAGE_SIZE, IMAGE_SIZE, 3))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    assert features.dtype == expected.dtype == model.decoder.new_slots(1).dtype
