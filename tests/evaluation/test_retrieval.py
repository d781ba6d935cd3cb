"""Retrieval recall in both directions, by cosine and re-ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.errors import InvalidInput
from producer.evaluation.annotations import CaptionedImage
from producer.evaluation.items import retrieval_text
from producer.evaluation.retrieval import (
    Embeddings,
    candidate_texts,
    read_matches,
    score_reranked,
    score_retrieval,
)


def images_of(count: int, captions: int = 5) -> list[CaptionedImage]:
    return [
        CaptionedImage(
            1000 + image, f"{image}.jpg", [f"picture {image} text {n}" for n in range(captions)]
        )
        for image in range(count)
    ]


def random_embeddings(count: int, seed: int) -> tuple[list[CaptionedImage], Any, Any]:
    generator = np.random.default_rng(seed)
    images = images_of(count)
    image_rows = generator.normal(size=(count, 8))
    text_rows = image_rows.repeat(5, axis=0) + generator.normal(size=(5 * count, 8)) * 1.2
    return (
        images,
        image_rows / np.linalg.norm(image_rows, axis=1, keepdims=True),
        text_rows / np.linalg.norm(text_rows, axis=1, keepdims=True),
    )


def itm_eval(scores_i2t: Any, scores_t2i: Any) -> tuple[list[float], list[float]]:
    """Return recalls by the steps of `itm_eval` in train_retrieval.py of salesforce/BLIP."""
    ranks = np.zeros(len(scores_i2t))
    for index, score in enumerate(scores_i2t):
        order = np.argsort(score)[::-1]
        ranks[index] = min(np.where(order == 5 * index + n)[0][0] for n in range(5))
    text_ranks = np.zeros(len(scores_t2i))
    for index, score in enumerate(scores_t2i):
        text_ranks[index] = np.where(np.argsort(score)[::-1] == index // 5)[0][0]
    return (
        [float((ranks < limit).mean()) for limit in (1, 5, 10)],
        [float((text_ranks < limit).mean()) for limit in (1, 5, 10)],
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_recall_of_vectors_is_that_of_blips_evaluation(seed: int) -> None:
    # More images than the rows of a block.
    images, image_rows, text_rows = random_embeddings(300, seed)
    scores = score_retrieval(Embeddings(images, image_rows, text_rows))
    cosines = image_rows.astype("float32") @ text_rows.astype("float32").T
    by_image, by_text = itm_eval(cosines, cosines.T)
    assert scores.image_to_text == pytest.approx(by_image)
    assert scores.text_to_image == pytest.approx(by_text)
    assert 0.05 < scores.text_to_image[0] < scores.text_to_image[2] < 1


def test_the_recall_after_reranking_is_that_of_blips_evaluation() -> None:
    images, image_rows, text_rows = random_embeddings(40, 7)
    embeddings = Embeddings(images, image_rows, text_rows)
    generator = np.random.default_rng(8)
    matching = generator.normal(size=(40, 200)) + 2 * np.eye(40).repeat(5, axis=1)
    matches = np.full((40, 200), np.nan, np.float32)
    for image, texts in candidate_texts(embeddings, 6).items():
        columns = [embeddings.texts.index(text) for text in texts]
        matches[image, columns] = matching[image, columns]
    scores = score_reranked(embeddings, matches, 6)

    cosines = image_rows.astype("float32") @ text_rows.astype("float32").T
    expected = []
    for sims, match in ((cosines, matching), (cosines.T, matching.T)):
        matrix = np.full(sims.shape, -100.0)
        for row, values in enumerate(sims):
            top = np.argsort(values)[-6:]
            matrix[row, top] = match[row, top]
        expected.append(matrix)
    by_image, by_text = itm_eval(*expected)
    # Beyond the candidates all scores are equal: a lost answer has no rank.
    assert scores.image_to_text[:2] == pytest.approx(by_image[:2])
    assert scores.text_to_image[:2] == pytest.approx(by_text[:2])


def test_equal_vectors_do_not_count_as_retrieved() -> None:
    images = images_of(3, captions=1)
    scores = score_retrieval(Embeddings(images, np.ones((3, 4)), np.ones((3, 4))))
    assert scores.image_to_text[0] == scores.text_to_image[0] == 0


def test_vectors_are_read_by_their_custom_ids(tmp_path: Path) -> None:
    images, image_rows, text_rows = random_embeddings(4, 1)
    lines = [
        {"custom_id": f"image:{image.id}", "embedding": row.tolist()}
        for image, row in zip(images, image_rows, strict=True)
    ] + [
        {"custom_id": f"text:{1000 + n // 5}:{n % 5}", "embedding": row.tolist()}
        for n, row in enumerate(text_rows)
    ]
    path = tmp_path / "vectors.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in reversed(lines)))
    expected = score_retrieval(Embeddings(images, image_rows, text_rows))
    assert score_retrieval(Embeddings.read(str(path), images)) == expected

    path.write_text("\n".join(json.dumps(line) for line in lines[1:]))
    with pytest.raises(InvalidInput, match="no vector with the custom_id 'image:1000'"):
        Embeddings.read(str(path), images)
    lines[0]["embedding"] = [1.0]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(InvalidInput, match="a vector has no numbers, or another length"):
        Embeddings.read(str(path), images)
    path.write_text('{"custom_id": "image:1000", "error": {"message": "no image"}}')
    with pytest.raises(InvalidInput, match=r"line 1: no embedding: .*no image"):
        Embeddings.read(str(path), images)


def test_a_missing_matching_score_is_named() -> None:
    images, image_rows, text_rows = random_embeddings(3, 2)
    with pytest.raises(InvalidInput, match="image 1000: no matching score for the text 'picture"):
        score_reranked(
            Embeddings(images, image_rows, text_rows), np.full((3, 15), np.nan, np.float32), 2
        )


def test_matching_scores_are_finite_log_odds_plus_the_cosine(tmp_path: Path) -> None:
    images, image_rows, text_rows = random_embeddings(2, 3)
    embeddings = Embeddings(images, image_rows, text_rows)
    path = tmp_path / "matches.jsonl"

    def read(*matches: dict[str, Any], custom_id: str = "match:1001:0") -> Any:
        path.write_text(json.dumps({"custom_id": custom_id, "matches": matches}))
        return read_matches(str(path), embeddings)

    scores = read(
        {"text": "picture 0 text 1", "probability": 1.0, "cosine": 0.9},
        {"text": "picture 1 text 0", "probability": 0.5, "cosine": 0.25},
    )
    assert scores[1, 5] == 0.25
    assert 10 < scores[1, 1] < 20
    assert np.isnan(scores).sum() == 18
    with pytest.raises(InvalidInput, match="line 1: a match needs a text"):
        read({"text": "a"})
    with pytest.raises(InvalidInput, match="'match:7:0' names no image"):
        read(custom_id="match:7:0")
    path.write_text('{"custom_id": "match:1001:0", "error": {"message": "no image"}}')
    with pytest.raises(InvalidInput, match=r"line 1: no matches: .*no image"):
        read_matches(str(path), embeddings)


def test_texts_are_prepared_as_blip_does() -> None:
    assert retrieval_text('  A "man" on a T-shirt: (happy)... ') == "a man on a t-shirt happy"
    assert len(retrieval_text("word " * 40).split()) == 30
