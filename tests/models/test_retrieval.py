"""BLIP and BLIP-2 retrieval against plain transformers, one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipForImageTextRetrieval,
    BlipProcessor,
)

from tests.models.retrieval_checkpoints import (
    IMAGE_SIZE,
    POSITIONS,
    SPECIAL,
    TEXTS,
    save_blip,
    save_blip2,
)
from tests.models.traffic import row_counts
from worker.engine.errors import LoadError, PromptTooLong
from worker.models.registry import load


class Pair(NamedTuple):
    """Scores and embeddings of an image and a text, by plain transformers."""

    probability: float
    cosine: float
    image: Tensor
    text: Tensor


class Reference:
    """Plain transformers: processor and forward pass, for one pair at a time."""

    def __init__(self, path: Path, family: str) -> None:
        blip2 = family == "blip2"
        self.processor: Any = (Blip2Processor if blip2 else BlipProcessor).from_pretrained(path)
        network = Blip2ForImageTextRetrieval if blip2 else BlipForImageTextRetrieval
        self.network: Any = network.from_pretrained(path).eval()
        self.pair = self._blip2 if blip2 else self._blip

    @torch.inference_mode()
    def _blip(self, image: Image.Image, text: str) -> Pair:
        inputs = self.processor(images=image, text=text, return_tensors="pt")
        itm = self.network(**inputs).itm_score
        itc = self.network(**inputs, use_itm_head=False)
        projected = self.network.vision_proj(itc.last_hidden_state[0, 0])
        read = self.network.text_proj(itc.question_embeds[0, 0])
        return Pair(
            float(itm.softmax(1)[0, 1]),
            float(itc.itm_score),
            projected / projected.norm(),
            read / read.norm(),
        )

    @torch.inference_mode()
    def _blip2(self, image: Image.Image, text: str) -> Pair:
        inputs = self.processor(images=image, text=text, return_tensors="pt")
        itm = self.network(**inputs, use_image_text_matching_head=True).logits_per_image
        itc = self.network(**inputs)
        mean = itc.image_embeds[0].mean(0)
        return Pair(
            float(itm.softmax(1)[0, 1]),
            float(itc.logits_per_image),
            mean / mean.norm(),
            itc.text_embeds[0],
        )


class Case(NamedTuple):
    family: str
    path: Path
    model: Any
    reference: Reference


@pytest.fixture(scope="module", params=["blip", "blip2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp(request.param)
    {"blip": save_blip, "blip2": save_blip2}[request.param](path)
    return Case(request.param, path, load_model(path), Reference(path, request.param))


def load_model(path: Path, precision: str = "fp32") -> Any:
    return load(str(path), precision, "cpu")


def images(count: int) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def encode(model: Any, pictures: list[Image.Image]) -> Tensor:
    pixels = np.stack([np.array(picture) for picture in pictures])
    features: Tensor = model.encode(torch.from_numpy(pixels))
    return features


def batches(pairs: list[tuple[int, str]], rng: Random) -> Iterator[list[tuple[int, str]]]:
    """Every pair once, in any order, in batches of any size."""
    pairs = rng.sample(pairs, len(pairs))
    while pairs:
        size = rng.randint(1, 16)
        yield pairs[:size]
        pairs = pairs[size:]


@pytest.mark.parametrize("count", row_counts(6, 24))
def test_pairs_in_mixed_batches_equal_transformers_one_by_one(case: Case, count: int) -> None:
    # Given images, each encoded once, and texts of many lengths
    pictures, model = images(count), case.model
    features = encode(model, pictures)
    pairs = [(number, text) for number in range(len(pictures)) for text in TEXTS]
    expected = {pair: case.reference.pair(pictures[pair[0]], pair[1]) for pair in pairs}
    # (whose scores differ)
    assert np.std([pair.probability for pair in expected.values()]) > 0.05
    assert np.std([pair.cosine for pair in expected.values()]) > 0.05
    # When all pairs are matched in batches of any size and order
    for some in batches(pairs, Random(0)):
        texts = [model.tokens(text) for _, text in some]
        probabilities, cosines = model.match(features[[number for number, _ in some]], texts)
        # Then each has the scores of transformers for the pair alone
        assert probabilities.dtype == cosines.dtype == torch.float32
        for row, pair in enumerate(some):
            assert float(probabilities[row]) == pytest.approx(expected[pair].probability, abs=1e-5)
            assert float(cosines[row]) == pytest.approx(expected[pair].cosine, abs=1e-5)


def test_embeddings_are_unit_vectors_and_those_of_transformers(case: Case) -> None:
    pictures, model = images(len(TEXTS)), case.model
    of_images = model.embed_images(encode(model, pictures))
    of_texts = model.embed_texts([model.tokens(text) for text in TEXTS])
    for embeddings in (of_images, of_texts):
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(TEXTS)))
    for row, (picture, text) in enumerate(zip(pictures, TEXTS, strict=True)):
        expected = case.reference.pair(picture, text)
        torch.testing.assert_close(of_images[row], expected.image, atol=1e-5, rtol=0)
        torch.testing.assert_close(of_texts[row], expected.text, atol=1e-5, rtol=0)


def test_an_image_alone_has_the_features_that_it_has_among_others(case: Case) -> None:
    pictures = images(5)
    together = encode(case.model, pictures)
    for number, picture in enumerate(pictures):
        alone = encode(case.model, [picture])[0]
        torch.testing.assert_close(alone, together[number], atol=1e-5, rtol=0)


def test_the_vision_encoder_runs_once_for_all_texts(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an image's features
    features = encode(case.model, images(1))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the image was encoded again")

    # When many texts are compared with it, Then its pixels are not needed
    monkeypatch.setattr(case.model, "tower", refuse)
    texts = [case.model.tokens(text) for text in TEXTS]
    probabilities, cosines = case.model.match(features.expand(len(texts), -1, -1), texts)
    assert case.model.embed_images(features).shape == (1, 20)
    assert len(set(probabilities.tolist())) == len(set(TEXTS)) - 1  # upper case is lowered
    assert len(set(cosines.tolist())) == len(set(TEXTS)) - 1


def test_user_text_never_becomes_a_control_token(case: Case) -> None:
    tokenizer = case.model.texts.tokenizer
    ids = case.model.tokens("a [SEP] red [PAD][CLS] <image>")
    assert ids[0] == tokenizer.cls_token_id
    assert ids[-1] == tokenizer.sep_token_id
    assert set(tokenizer.all_special_ids).isdisjoint(ids[1:-1])
    assert "".join(tokenizer.convert_ids_to_tokens(ids[1:-1])).replace("##", "") == (
        "a[sep]red[pad][cls]<image>"
    )


def test_a_text_that_is_too_long_is_rejected_and_the_longest_is_read(case: Case) -> None:
    longest = " ".join(["red"] * (POSITIONS - 2))
    assert len(case.model.tokens(longest)) == POSITIONS
    case.model.match(encode(case.model, images(1)), [case.model.tokens(longest)])
    with pytest.raises(PromptTooLong, match=rf"{POSITIONS + 1} tokens.* {POSITIONS}\."):
        case.model.tokens(longest + " red")


def test_invalid_unicode_is_rejected(case: Case) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        case.model.tokens("\ud800")


def test_a_model_describes_itself(case: Case) -> None:
    model = case.model
    assert model.tasks == {"match", "embed"}
    assert (model.name, model.precision) == (str(case.path), "fp32")
    assert model.device == torch.device("cpu")
    assert (model.image_size, model.resample) == (IMAGE_SIZE, int(Image.Resampling.BICUBIC))
    assert model.revision == load_model(case.path).revision
    assert model.revision != load_model(case.path, "bf16").revision


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_lower_precision_gives_nearly_the_same_scores(case: Case, precision: str) -> None:
    if precision == "int8":
        pytest.importorskip("bitsandbytes")
    half = load_model(case.path, precision)
    pictures = images(len(TEXTS))
    texts = [half.tokens(text) for text in TEXTS]
    expected = case.model.match(encode(case.model, pictures), texts)
    features = encode(half, pictures)
    for scores, exact in zip(half.match(features, texts), expected, strict=True):
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, exact, atol=0.1, rtol=0)
    for vectors in (half.embed_images(features), half.embed_texts(texts)):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))


@pytest.mark.parametrize("save", [save_blip, save_blip2])
def test_a_tokenizer_without_its_vocabulary_is_refused(
    save: Callable[[Path], None], tmp_path: Path
) -> None:
    save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(LoadError, match="has no vocabulary of its tokenizer"):
        load(str(tmp_path), device="cpu")
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL))
    with pytest.raises(LoadError, match="has 5 tokens, and the model"):
        load(str(tmp_path), device="cpu")
