"""Training's packed rows are what the model meets at inference."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from transformers import Blip2Processor

from demo.architecture import QUERY_TOKENS, build_model, build_processor
from demo.batches import (
    IGNORED,
    MAX_TURNS,
    Scenes,
    choose_lookups,
    choose_questions,
    dialogue_lengths,
    squash,
)
from demo.dialogues import PROMPT, dialogue
from demo.scenes import COLORS, KINDS, draw, random_scene
from demo.schedule import RATES, STEPS, Plan, plans, rate
from demo.train import Trainer
from worker.models.dialogue import format_dialogue
from worker.models.registry import VQA_TEMPLATE


@pytest.fixture(scope="module")
def processor() -> Blip2Processor:
    return build_processor()


def test_each_word_of_the_world_is_one_token(processor: Blip2Processor) -> None:
    for word in ("a", "an", *COLORS, *KINDS):
        assert len(processor.tokenizer.tokenize(f" {word}")) == 1


def test_any_text_survives_the_tokenizer(processor: Blip2Processor) -> None:
    text = "Où est le 🐈? \u65e5\u672c\x00"
    tokens = processor.tokenizer(text)["input_ids"]
    assert processor.tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_the_squashed_picture_is_the_processors(processor: Blip2Processor) -> None:
    picture = draw(random_scene(Random(1)), 300, 200)
    images = processor.image_processor
    mean, std = (
        np.array(v, np.float32)[:, None, None] for v in (images.image_mean, images.image_std)
    )
    ours = (squash(picture) / np.float32(255) - mean) / std
    theirs = images(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_batch_depends_on_its_seed_and_number_alone(processor: Blip2Processor) -> None:
    plans = [Plan(4, 3, 0.5)] * 3
    first, second = (Scenes(processor.tokenizer, 5, plans) for _ in range(2))
    first[0]
    for tensor, same in zip(first[2], second[2], strict=True):
        torch.testing.assert_close(tensor, same, rtol=0, atol=0, equal_nan=True)


def test_chosen_questions_differ() -> None:
    for seed in range(50):
        questions = choose_questions(Random(seed), random_scene(Random(seed)), 8)
        assert len({question for _, question, _ in questions}) == len(questions)


def turns_about(seed: int) -> list[tuple[str, str]]:
    """Return a few questions about some scene, with their answers."""
    rng = Random(seed)
    questions = choose_questions(rng, random_scene(rng), MAX_TURNS)
    return [(question.question, question.answer) for question in questions]


def test_a_dialogue_is_laid_out_as_the_engine_does() -> None:
    for seed in range(50):
        *earlier, (question, _) = turns_about(seed)
        served = format_dialogue(VQA_TEMPLATE, earlier, question, lambda text: True)
        assert dialogue(earlier, question) == served


def test_each_answer_of_a_dialogue_is_learned_after_the_tokens_of_inference(
    processor: Blip2Processor,
) -> None:
    scenes = Scenes(processor.tokenizer, 0, [])
    for seed in range(50):
        # Given a dialogue of the training
        turns = turns_about(seed)
        laid_out = [(PROMPT.format(question=question), f" {answer}") for question, answer in turns]
        tokens, labels = scenes.text(laid_out)
        for number, (question, answer) in enumerate(turns):
            # When the model is given the turns before one of its answers
            prompt = processor.tokenizer(dialogue(turns[:number], question))["input_ids"]
            # Then the training has the same tokens there, and this answer and its end to learn
            assert tokens[: len(prompt)] == prompt
            learned = processor.tokenizer(f" {answer}")["input_ids"][1:]
            learned.append(processor.tokenizer.eos_token_id)
            start = len(prompt) - 1
            assert labels[start : start + len(learned)] == learned
        answers = sum(label == processor.tokenizer.eos_token_id for label in labels)
        assert answers == len(turns)


def test_lookups_ask_for_the_color_of_a_kind_or_the_kind_of_a_color() -> None:
    for seed in range(50):
        scene = random_scene(Random(seed))
        lookups = choose_lookups(Random(seed), scene, 2)
        assert len(set(lookups)) == len(lookups) <= 2
        assert {question.kind for question in lookups} <= {"color", "shape of color"}
        assert set(lookups) <= set(scene.questions())


def test_questions_are_divided_into_dialogues() -> None:
    for seed in range(50):
        lengths = dialogue_lengths(Random(seed), seed % 7)
        assert sum(lengths) == seed % 7
        assert all(2 <= length <= MAX_TURNS for length in lengths[:-1])


@pytest.mark.parametrize("dialogues", [0.0, 1.0])
def test_a_packed_text_scores_as_it_would_alone(
    processor: Blip2Processor, dialogues: float
) -> None:
    # Given a picture packed with its caption and three questions
    trainer = Trainer(processor, seed=0)
    plan = Plan(1, 3, 1.0, dialogues=dialogues)
    batch = Scenes(processor.tokenizer, 3, [plan])[0]
    packed = trainer.loss(batch, plan).item()
    # When each text is scored by itself, through the model's own forward
    model = build_model(processor)
    model.load_state_dict(trainer.model.state_dict())
    pixels = (batch.pixels - trainer.mean) / trainer.std
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    image = torch.full((QUERY_TOKENS,), image_id)
    losses = []
    for segment in range(1, int(batch.segments.max()) + 1):
        span = batch.segments[0] == segment
        tokens = torch.cat([image, batch.tokens[0][span]])[None]
        logits = model(pixel_values=pixels, input_ids=tokens).logits[0, QUERY_TOKENS:]
        labels = batch.labels[0][span]
        loss = torch.nn.functional.cross_entropy(
            logits, labels, reduction="none", ignore_index=IGNORED
        )
        losses.extend(loss[labels != IGNORED].tolist())
    # Then their mean is the packed row's loss
    assert packed == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_a_question_is_given_and_its_answer_learned(processor: Blip2Processor) -> None:
    batch = Scenes(processor.tokenizer, 4, [Plan(1, 1, 0.0)])[0]
    second = batch.segments[0] == 2
    tokens, learned = batch.tokens[0][second], batch.labels[0][second]
    answer = processor.tokenizer.decode(learned[learned != IGNORED])
    prompt = processor.tokenizer.decode(tokens, skip_special_tokens=True)
    before, after = PROMPT.split("{question}")
    assert prompt.startswith(before)
    assert after in prompt
    assert answer.startswith(" ")
    assert answer.endswith("</s>")


def test_the_last_phase_lasts_as_long_as_is_asked() -> None:
    assert len(plans(STEPS + 10)) == STEPS + 10
    assert plans(STEPS + 10)[-1] == plans(STEPS)[-1]
    assert plans(10) == plans(STEPS)[:10]


def test_the_learning_rate_rises_stays_and_falls() -> None:
    shares = [rate(step, RATES) for step in range(STEPS)]
    assert shares[0] < shares[100] < 1 == shares[STEPS // 2] > shares[-2] > shares[-1] > 0
    assert shares[0] == pytest.approx(1 / 200)
