"""Each task with the library `huggingface_hub`, unmodified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import numpy
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests.gateway.conftest import Reached
from tests.gateway.fake_worker import Recorder

PNG: Final = b"\x89PNG\r\n\x1a\n the bytes of an image"
BLOB: Final = f"blob:{hashlib.sha256(PNG).hexdigest()}"
BASE64: Final = base64.b64encode(PNG).decode()
URL: Final = "https://images.example.com/cat.jpg"
#: Probabilities of the texts of a match, and their odds.
PROBABILITIES: Final = {"a dog": 0.2, "a cat": 0.8, "a bird": 0.5}
ODDS: Final = {"a dog": 0.25, "a cat": 4.0, "a bird": 1.0}


def as_file(path: Path) -> Any:
    return path


#: Forms in which the library accepts an image.
FORMS: Final[dict[str, Callable[[Path], Any]]] = {
    "bytes": Path.read_bytes,
    "path": as_file,
    "name": str,
}


def match(task: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return the probabilities of texts that end with the labels."""
    matches = [
        {"text": text, "probability": probability, "cosine": 0.1}
        for text in item["texts"]
        for label, probability in PROBABILITIES.items()
        if text.rstrip(".").endswith(label)
    ]
    return {"text": "", "matches": matches}


@pytest.mark.parametrize("form", FORMS)
def test_image_to_text_is_a_caption(
    hub: InferenceClient, worker: Recorder, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    worker.answer = lambda task, item: {"text": "a cat on a sofa"}
    image = FORMS[form](path)
    assert hub.image_to_text(image).generated_text == "a cat on a sofa"
    assert worker.jobs == [("caption", {"image": BLOB})]


@pytest.mark.parametrize("top_k", [None, 1, 5])
def test_visual_question_answering_has_one_answer(
    hub: InferenceClient, worker: Recorder, top_k: int | None
) -> None:
    (answer,) = hub.visual_question_answering(PNG, "how many?", top_k=top_k)
    assert answer.answer == "answer to how many?"
    assert worker.jobs == [("vqa", {"image": BLOB, "question": "how many?"})]


@pytest.mark.parametrize("template", [None, "a drawing of {}"])
def test_zero_shot_image_classification_is_the_softmax_of_the_matches(
    hub: InferenceClient, worker: Recorder, template: str | None
) -> None:
    worker.answer = match
    elements = hub.zero_shot_image_classification(
        PNG, candidate_labels=list(PROBABILITIES), hypothesis_template=template
    )
    texts = [(template or "This is a photo of {}.").replace("{}", label) for label in PROBABILITIES]
    assert worker.jobs == [("match", {"image": BLOB, "texts": texts})]
    assert [element.label for element in elements] == ["a cat", "a bird", "a dog"]
    expected = [ODDS[element.label] / sum(ODDS.values()) for element in elements]
    assert [element.score for element in elements] == pytest.approx(expected)
    assert sum(element.score for element in elements) == pytest.approx(1)


@pytest.mark.parametrize("extremes", [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_certain_probabilities_have_finite_scores(
    hub: InferenceClient, worker: Recorder, extremes: tuple[float, float]
) -> None:
    worker.answer = lambda task, item: {
        "text": "",
        "matches": [{"text": "", "probability": p, "cosine": 0.0} for p in extremes],
    }
    elements = hub.zero_shot_image_classification(PNG, candidate_labels=["a", "b"])
    scores = {element.label: element.score for element in elements}
    assert all(map(math.isfinite, scores.values()))
    assert scores["a"] == pytest.approx(0.5 if extremes[0] == extremes[1] else 1.0)


def test_feature_extraction_returns_a_vector_for_each_text(
    hub: InferenceClient, worker: Recorder
) -> None:
    worker.answer = lambda task, item: {"embedding": [0.6, len(item.get("text", "")) / 10]}
    single = hub.feature_extraction("a cat", normalize=True, truncate=False)
    assert single.dtype == numpy.dtype("float32")
    assert single.shape == (2,)
    assert single.tolist() == pytest.approx([0.6, 0.5])
    many = hub.feature_extraction(["a cat", "a", f"data:image/png;base64,{BASE64}"])
    assert many.shape == (3, 2)
    assert many[:, 1].tolist() == pytest.approx([0.5, 0.1, 0.0])
    assert ("embed", {"image": BLOB}) in worker.jobs


# The library's asynchronous client sends bytes in a form that its HTTP client deprecates.
@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_the_asynchronous_client_runs_each_task(gateway: Reached, worker: Recorder) -> None:
    def answer(task: str, item: dict[str, Any]) -> dict[str, Any]:
        if task == "match":
            return match(task, item)
        return {"embedding": [1.0]} if task == "embed" else {"text": task}

    worker.answer = answer

    async def run() -> list[Any]:
        hub = AsyncInferenceClient(model=f"{gateway.url}/hf", token=gateway.keys["acme"])
        outputs = [
            (await hub.image_to_text(PNG)).generated_text,
            (await hub.visual_question_answering(PNG, "how many?"))[0].answer,
            (await hub.zero_shot_image_classification(PNG, ["a cat", "a dog"]))[0].label,
            (await hub.feature_extraction("a cat")).tolist(),
        ]
        await hub.close()
        return outputs

    assert asyncio.run(run()) == ["caption", "vqa", "a cat", [1.0]]


def test_the_endpoint_describes_itself(gateway: Reached) -> None:
    url, key = f"{gateway.url}/hf", gateway.keys["acme"]
    hub = InferenceClient(model=url, token=key, provider="hf-inference")
    assert hub.health_check()
    assert not InferenceClient(url, token="blip_wrong", provider="hf-inference").health_check()
    assert hub.get_endpoint_info()["model_id"] == "blipline"


def test_chat_completions_of_the_library_use_the_other_api(
    gateway: Reached, worker: Recorder
) -> None:
    url = f"{gateway.url}/openai/v1"
    with InferenceClient(base_url=url, api_key=gateway.keys["acme"]) as client:
        image = {"type": "image_url", "image_url": {"url": URL}}
        content = [{"type": "text", "text": "how many?"}, image]
        completion = client.chat_completion(
            [{"role": "user", "content": content}], model="blipline"
        )
    assert completion.choices[0].message.content == "answer to how many?"


@pytest.mark.parametrize(
    ("path", "request_", "job", "options"),
    [
        ("", {"json": {"inputs": BASE64, "parameters": {}}}, ("caption", {"image": BLOB}), {}),
        (
            "/image-to-text",
            {
                "json": {
                    "inputs": URL,
                    "parameters": {
                        "max_new_tokens": 7,
                        "generation_parameters": {"num_beams": 3, "use_cache": True},
                    },
                }
            },
            ("caption", {"image": URL}),
            {"max_new_tokens": 7, "num_beams": 3},
        ),
        # What curl declares for --data-binary and -d.
        (
            "",
            {
                "content": PNG,
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            },
            *(("caption", {"image": BLOB}), {}),
        ),
        (
            "/visual-question-answering",
            {
                "content": f'{{"inputs": {{"image": "{URL}", "question": "what?"}}}}',
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            },
            *(("vqa", {"image": URL, "question": "what?"}), {}),
        ),
        ("/feature-extraction", {"content": PNG}, ("embed", {"image": BLOB}), {}),
    ],
    ids=range(5),
)
def test_requests_without_the_library_have_the_same_forms(
    http: httpx.Client,
    worker: Recorder,
    path: str,
    request_: dict[str, Any],
    job: tuple[str, dict[str, Any]],
    options: dict[str, Any],
) -> None:
    worker.answer = lambda task, item: {"embedding": [1.0]} if task == "embed" else {"text": "x"}
    answer = http.post(f"/hf{path}", **request_)
    assert answer.status_code == 200, answer.text
    assert worker.jobs == [job]
    given = {name: worker.options[0].get(name) for name in options}
    assert given == options
    assert http.get(answer.headers["Location"]).json()["status"] == "done"
