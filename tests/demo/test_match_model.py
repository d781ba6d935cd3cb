"""The retrieval model of the demo: its training, and its verdicts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BlipForImageTextRetrieval, BlipProcessor

from demo.articles import ARTICLES, indefinite
from demo.evaluate_match import GALLERY, Matching, Row, fair, held_out, judge, recalls
from demo.match_architecture import build_processor
from demo.match_batches import IGNORED, NAMES, TEXTS, MatchScenes, choose_texts, judged
from demo.match_texts import ERRORS, confusions, errors, phrases
from demo.scenes import random_picture, random_scene
from demo.schedule import Plan
from demo.train import save_state
from demo.train_match import MatchTrainer, _at
from worker.engine.model import as_matcher
from worker.models.registry import load

MODEL = Path(__file__).parents[2] / "demo" / "match_model"
SCENES = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Use a single thread: with small matrices on a busy machine, a second only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def processor() -> BlipProcessor:
    return build_processor()


@pytest.fixture(scope="module")
def matching() -> Matching:
    return Matching(MODEL)


def relation_of(text: str) -> str:
    return "above" if " above " in text else "left of"


def names(text: str) -> list[str]:
    """Return the names of the shapes, in order."""
    return text.split(" on ")[0].split(f" {relation_of(text)} ")


def test_each_word_of_the_world_is_one_token(processor: BlipProcessor) -> None:
    for number in range(200):
        rng = Random(number)
        for text in choose_texts(rng, random_scene(rng)):
            tokens = processor.tokenizer.tokenize(text.text)
            assert tokens == text.text.split()


def test_any_text_has_tokens(processor: BlipProcessor) -> None:
    tokenizer = processor.tokenizer
    assert tokenizer.tokenize("Zebra-crossing 42!") == [
        *["z", "##e", "##b", "##r", "##a", "-"],
        *["c", "##r", "##o", "##s", "##s", "##i", "##n", "##g", "4", "##2", "!"],
    ]
    ids = tokenizer("Où est le 🐈? \u65e5\u672c\x00")["input_ids"]
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id


def test_an_error_is_in_exactly_one_thing() -> None:
    for number in range(300):
        rng = Random(number)
        scene = random_scene(rng)
        right = scene.caption()
        texts = errors(rng, scene)
        kinds = [text.kind for text in texts]
        assert kinds == [kind for kind in ERRORS if kind in kinds]
        for text in texts:
            assert not text.true
            assert text.text != right
            if text.kind in ("color", "shape", "background"):
                before, after = right.split(), text.text.split()
                assert len(before) == len(after)
                changed = [i for i, word in enumerate(after) if word != before[i]]
                # An article that agrees with the new word does not count.
                assert [i for i in changed if after[i] not in ARTICLES] == [text.wrong]
            if text.kind == "relation":
                assert {"left of", "above"} == {relation_of(right), relation_of(text.text)}
                assert names(text.text) == names(right)
            if text.kind == "sides":
                assert relation_of(text.text) == relation_of(right)
                assert names(text.text) == names(right)[::-1]


def test_confusions_and_phrases_say_whether_they_are_true() -> None:
    for number in range(300):
        rng = Random(number)
        scene = random_scene(rng)
        present = {indefinite(shape.name) for shape in scene.shapes}
        for text in phrases(rng, scene):
            assert text.true == (text.text in present)
        for text in confusions(rng, scene):
            assert not text.true
            assert text.text != scene.caption()


def test_what_is_judged_stands_at_its_token(processor: BlipProcessor) -> None:
    for number in range(200):
        rng = Random(number)
        for text in choose_texts(rng, random_scene(rng)):
            words = processor.tokenizer.convert_ids_to_tokens(
                processor.tokenizer(text.text)["input_ids"]
            )
            marks = judged(text)
            assert len(marks) == len(words)
            assert {word for word, mark in zip(words, marks, strict=True) if mark >= 0} <= NAMES
            assert marks.count(0) == (text.wrong is not None)


def test_a_batch_depends_on_its_seed_and_number_alone(processor: BlipProcessor) -> None:
    plans = [Plan(4, 0, 0.5)] * 3
    first, second = (MatchScenes(processor.tokenizer, 5, plans) for _ in range(2))
    first[0]
    for tensor, same in zip(first[2], second[2], strict=True):
        torch.testing.assert_close(tensor, same, rtol=0, atol=0)


def test_a_packed_text_is_judged_as_it_would_be_alone(processor: BlipProcessor) -> None:
    # Given pictures whose texts are packed into one row each
    trainer = MatchTrainer(processor, seed=0)
    batch = MatchScenes(processor.tokenizer, 3, [Plan(2, 0, 0.5)])[0]
    pixels = (batch.pixels - trainer.mean) / trainer.std
    with torch.inference_mode():
        images = trainer.model.vision_model(pixels).last_hidden_state
        read = trainer._read(batch, encoder_hidden_states=images)
        packed = trainer.model.itm_head(_at(read, batch.starts))
        # When each text is judged by itself, through the model's own forward
        for row, number in (batch.true != IGNORED).nonzero().tolist():
            alone = trainer.model(
                input_ids=batch.tokens[row][batch.segments[row] == number][None],
                pixel_values=pixels[row : row + 1],
            ).itm_score[0]
            # Then the verdict is the packed row's
            torch.testing.assert_close(packed[row, number], alone, atol=1e-5, rtol=0)
    assert batch.true.shape == (2, TEXTS)


def test_training_goes_on_where_it_stopped(processor: BlipProcessor, tmp_path: Path) -> None:
    # Given a training, and another that is made from its state after one step
    scenes = MatchScenes(processor.tokenizer, 1, [Plan(2, 0, 0.5)] * 2)
    through = MatchTrainer(processor, seed=0)
    through.train(scenes[0], 0.1)
    resumed = MatchTrainer(processor, seed=7)
    save_state(through.state(), tmp_path / "state.pt")
    resumed.restore(torch.load(tmp_path / "state.pt"))
    # When both take the next step, Then they are equal
    assert through.train(scenes[1], 0.1) == resumed.train(scenes[1], 0.1)
    averages = (trainer.average.parameters() for trainer in (through, resumed))
    for weights, same in zip(*averages, strict=True):
        assert torch.equal(weights, same)


def test_the_model_is_small_and_opens_like_any_blip_for_retrieval() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 5e6
    network = BlipForImageTextRetrieval.from_pretrained(MODEL, dtype=torch.float32)
    assert network.config.architectures == ["BlipForImageTextRetrieval"]
    assert network.dtype == torch.float32
    processor = AutoProcessor.from_pretrained(MODEL)
    assert isinstance(processor, BlipProcessor)
    inputs = processor(images=Image.new("RGB", (80, 60)), text="a red star", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert network(**inputs).itm_score.shape == (1, 2)


def test_it_tells_a_caption_from_one_that_is_wrong_in_one_thing(matching: Matching) -> None:
    with torch.inference_mode():
        verdicts = judge(matching, held_out(SCENES, seed=2))
    for kind in ERRORS:
        group = [verdict for verdict in verdicts if verdict.row.kind == kind]
        ranked = [verdict.probability < verdict.of_caption for verdict in group]
        assert fair(group) >= 0.95, kind
        assert np.mean(ranked) >= 0.95, kind


def test_it_finds_pictures_by_their_captions(matching: Matching) -> None:
    with torch.inference_mode():
        rows = recalls(matching, gallery())
    shares = [float(cell.strip(" %")) for cell in rows.split("|") if "%" in cell]
    assert len(shares) == 4
    assert min(shares) >= 80


def gallery() -> list[Row]:
    rows = []
    for number in range(2 * GALLERY):
        rng = Random(f"gallery/{number}")
        scene = random_scene(rng)
        picture = random_picture(rng, scene, largest=320)
        rows.append(Row(number, "caption", len(scene.shapes), picture, scene.caption(), True))
    return rows


def test_it_is_served_as_transformers_runs_it(matching: Matching) -> None:
    # Given some pictures of the model's size, and texts about them
    rows = list(held_out(8, seed=3))
    rows = [row._replace(picture=row.picture.resize((64, 64))) for row in rows]
    served = as_matcher(load(str(MODEL), "fp32", "cpu"))
    assert served is not None
    # When they are matched by the engine's model
    pixels = torch.from_numpy(np.stack([np.array(row.picture) for row in rows]))
    texts = [served.tokens(row.text) for row in rows]
    probabilities, cosines = served.match(served.encode(pixels), texts)
    # Then probabilities and cosines are those of transformers
    with torch.inference_mode():
        expected = torch.tensor(matching.probabilities(rows))
        torch.testing.assert_close(probabilities, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(cosines, matching.cosines(rows).diagonal(), atol=1e-5, rtol=0)
