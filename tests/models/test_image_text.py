"""Image-text models in the grouped lane: each row equals `generate` on the row alone.

The reference is independent of the worker: the checkpoint's processor and `generate`, one row at a
time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Qwen2VLConfig,
    Qwen2VLProcessor,
)

from tests.engine.workload import codes, run
from tests.models.checkpoints import SaveOnce
from tests.models.image_text_checkpoints import CHECKPOINTS
from worker.engine.engine import Engine
from worker.engine.request import GenerationOptions, Request
from worker.engine.selfcheck import check
from worker.engine.warmup import warm_up
from worker.hub.resolver import resolve
from worker.images.decoder import Decoder
from worker.models.diverse_beams import DiverseBeamSearch
from worker.models.image_text.processor import read_processor, read_without_video
from worker.models.image_text.prompts import INSTRUCTION
from worker.models.registry import load

SIDE = 96
#: Images of several sizes and proportions, all with fewer pixels than SIDE * SIDE.
SIZES = ((48, 48), (90, 40), (30, 88))
GREEDY: dict[str, Any] = {"max_new_tokens": 6}
#: Options of a group, and what they are called by `generate`.
OPTIONS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "penalties": {
        "max_new_tokens": 8,
        "min_new_tokens": 5,
        "repetition_penalty": 1.7,
        "no_repeat_ngram_size": 2,
    },
    "beams": {"max_new_tokens": 5, "num_beams": 3, "length_penalty": 2.0},
    "several beams": {
        "max_new_tokens": 6,
        "num_beams": 4,
        "num_return_sequences": 3,
        "length_penalty": 1.5,
    },
    # transformers 5 has no search of its own; here, the reference is a single row of ours.
    "diverse beams": {
        "max_new_tokens": 6,
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.8,
        "repetition_penalty": 1.4,
    },
    "sampling": {
        "max_new_tokens": 6,
        "temperature": 0.9,
        "top_k": 20,
        "top_p": 0.9,
        "suppress_tokens": (20, 21, 22),
        "seed": 11,
    },
    "sampling above a part of the best": {
        "max_new_tokens": 6,
        "temperature": 1.5,
        "min_p": 0.1,
        "typical_p": 0.6,
        "seed": 3,
    },
    "sampling above a cutoff": {
        "max_new_tokens": 6,
        "temperature": 1.5,
        "epsilon_cutoff": 0.02,
        "seed": 8,
    },
    "sampling above a cutoff by entropy": {
        "max_new_tokens": 6,
        "temperature": 1.5,
        "eta_cutoff": 0.3,
        "seed": 8,
    },
    "sampled beams": {"max_new_tokens": 4, "num_beams": 2, "temperature": 1.2, "seed": 5},
}
#: Options that each kind runs with; the others do not depend on the architecture.
EACH_KIND = ("greedy", "beams", "sampling")
#: Options that each kind runs with in every run; in groups, each search picks rows on its own.
SAMPLE = ("greedy", "beams")
CASES = [
    pytest.param(
        *(name, options),
        id=f"{name}-{options}",
        marks=() if options in SAMPLE or name == "florence2" else pytest.mark.exhaustive,
    )
    for name in CHECKPOINTS
    for options in (OPTIONS if name in ("llava", "florence2") else EACH_KIND)
]
Turns = tuple[tuple[str, str], ...]
#: Task, text and earlier turns of the rows of a group.
ROWS: dict[bool, list[tuple[str, str, Turns]]] = {
    True: [
        ("caption", "", ()),
        ("vqa", "what is this?", ()),
        ("chat", "a red cat?", (("what is it?", "a cat"),)),
    ],
    False: [("caption", "", ()), ("caption", "what is a", ()), ("vqa", "is this red?", ())],
}


def picture(number: int) -> Image.Image:
    """Draw a picture of its own size and colours."""
    size = SIZES[number % len(SIZES)]
    image = Image.new("RGB", size, (40 * number % 256, 90, 220 - 30 * number))
    image.paste((250, 30 * number % 256, 10), (size[0] // 4, size[1] // 4, size[0] // 2, size[1]))
    return image


def pixels(image: Image.Image) -> bytes:
    """Decode an image as a consumer does."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return Decoder(SIDE, 3, 10**6, keeps_proportions=True).decode(file.getvalue())


@dataclass
class Kind:
    """A checkpoint, in the worker and by plain transformers."""

    name: str
    model: Any
    network: Any
    processor: Any

    @property
    def chats(self) -> bool:
        return "chat" in self.model.tasks

    @property
    def rows(self) -> list[tuple[str, str, Turns]]:
        if self.model.tasks == {"caption"}:
            return [("caption", "", ())] * 3
        return ROWS[self.chats]

    def inputs(self, image: Image.Image, text: str, history: Turns) -> Any:
        """Return the inputs of `generate` for one row, as the model's card shows."""
        if self.name == "vision-encoder-decoder":
            return self.processor[0](image, return_tensors="pt")
        if self.name == "florence2":
            return self.processor(images=image, text="<CAPTION>", return_tensors="pt")
        if self.name == "git":
            tokens = self.processor.tokenizer(text, add_special_tokens=False).input_ids
            inputs = self.processor.image_processor(image, return_tensors="pt")
            start = [self.processor.tokenizer.cls_token_id]
            return {**inputs, "input_ids": torch.tensor([start + tokens])}
        turns = [t for pair in history for t in zip(("user", "assistant"), pair, strict=True)]
        messages: list[Any] = [
            {"role": role, "content": [{"type": "text", "text": words}]}
            for role, words in [*turns, ("user", text or INSTRUCTION)]
        ]
        messages[0]["content"].insert(0, {"type": "image", "image": image})
        return self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def expect(self, number: int, options: dict[str, Any]) -> list[str]:
        """Return transformers' answers to a row, the best first."""
        return self.answers(picture(number), *self.rows[number % 3], options)

    def answers(
        self, image: Image.Image, task: str, text: str, history: Turns, options: dict[str, Any]
    ) -> list[str]:
        """Return transformers' answers to a task, the best first."""
        how = dict(options)
        if (seed := how.pop("seed", None)) is not None:
            torch.manual_seed(seed)
            how = {"top_k": 0, "top_p": 1.0} | how
        if (tokens := how.pop("suppress_tokens", None)) is not None:
            how["suppress_tokens"] = list(tokens)
        if how.pop("num_beam_groups", None):
            del how["diversity_penalty"]
            search = DiverseBeamSearch(GenerationOptions(**options), lambda: False, None)
            how["custom_generate"] = search
        inputs = self.inputs(image, text, history)
        output = self.network.generate(**inputs, do_sample=seed is not None, **how)
        rows = getattr(output, "sequences", output)
        encoded = self.network.config.is_encoder_decoder
        width = 1 if encoded else inputs["input_ids"].shape[1]
        pair = isinstance(self.processor, tuple)
        tokenizer = self.processor[1] if pair else self.processor.tokenizer
        texts = tokenizer.batch_decode(rows[:, width:], skip_special_tokens=True)
        prefix = f"{text} " if self.name == "git" and task == "caption" and text else ""
        return [f"{prefix}{answer.strip()}".strip() for answer in texts]

    def request(self, number: int, options: dict[str, Any]) -> Request:
        task, text, history = self.rows[number % 3]
        how = GenerationOptions(**options)
        return Request(
            number, task, f"image-{number}", pixels(picture(number)), text, how, history=history
        )


def texts(answer: Any) -> list[str]:
    """Return all texts of an answer."""
    return [sequence.text for sequence in answer.sequences] or [answer.text]


def reference_processor(name: str, path: Path) -> Any:
    """Load the processor as a user of transformers does, here without torchvision."""
    if name == "vision-encoder-decoder":
        return AutoImageProcessor.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    if name == "qwen2_vl":
        return read_without_video(Qwen2VLProcessor, resolve(str(path)))
    return AutoProcessor.from_pretrained(path)


@pytest.fixture(scope="module")
def load_kind(save_once: SaveOnce) -> Callable[[str], Kind]:
    """Load each kind once."""

    @cache
    def load_both(name: str) -> Kind:
        path = save_once(name)
        model = load(str(path), precision="fp32", device="cpu", image_side=SIDE)
        network = AutoModelForImageTextToText.from_pretrained(path).eval()
        return Kind(name, model, network, reference_processor(name, path))

    return load_both


@pytest.fixture(params=CHECKPOINTS)
def kind(request: pytest.FixtureRequest, load_kind: Callable[[str], Kind]) -> Kind:
    return load_kind(request.param)


@pytest.fixture
def engine(kind: Kind) -> Engine:
    engine = Engine(None, None, kind.model, max_rows=12)
    assert engine.generating is not None
    return engine


@pytest.mark.parametrize(("kind", "name"), CASES, indirect=["kind"])
def test_every_row_of_a_group_equals_the_row_alone(kind: Kind, engine: Engine, name: str) -> None:
    requests = [kind.request(number, OPTIONS[name]) for number in range(4)]
    expected = [kind.expect(number, OPTIONS[name]) for number in range(4)]
    answers = run(engine, *requests)
    assert codes(answers) == [None] * 4
    assert [texts(answers[number]) for number in range(4)] == expected
    assert texts(run(engine, requests[1])[1]) == expected[1]


def test_rows_with_equal_options_run_in_one_group(kind: Kind, engine: Engine) -> None:
    for number in range(3):
        engine.add(kind.request(number, GREEDY))
    engine.add(kind.request(4, OPTIONS["penalties"]))
    engine.step()
    assert engine.generating is not None
    assert (engine.generating.active, engine.generating.waiting) == (3, 1)
    assert codes(run(engine)) == [None] * 4


def test_a_model_is_measured_and_checked_at_its_start(kind: Kind, engine: Engine) -> None:
    warm_up(engine)
    check(engine)
    assert engine.generating is not None
    # Their padded rows equal single rows
    assert engine.generating.group_rows > 1
    assert engine.tasks == kind.model.tasks
    assert (kind.model.keeps_proportions, kind.model.image_size) == (True, SIDE)


def test_a_group_ends_when_all_its_requests_are_cancelled(kind: Kind, engine: Engine) -> None:
    long = {"max_new_tokens": 60, "min_new_tokens": 60}
    for number in range(2):
        engine.add(kind.request(number, long))
    engine.step()
    for number in range(2):
        engine.cancel(number)
    steps = engine.stats.steps
    assert codes(run(engine)) == ["cancelled"] * 2
    assert engine.stats.steps - steps < 5


def test_the_user_writes_no_control_tokens(kind: Kind, engine: Engine) -> None:
    if kind.model.tasks == {"caption"}:
        pytest.skip("it reads no text")
    tokenizer = kind.model.processor.tokenizer
    names = [name for name in tokenizer.all_special_tokens if "row_" not in name]
    text = " or ".join(["a", *names, "b"])
    plain, hostile = (
        Request(name, "vqa", "image", pixels(picture(0)), words, GenerationOptions(**GREEDY))
        for name, words in (("plain", "a b"), ("hostile", text))
    )
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    collated = [kind.model.collate([row]).arguments["input_ids"][0] for row in (plain, hostile)]
    ids = [[token for token in row.tolist() if token in special] for row in collated]
    assert ids[0] == ids[1]
    assert codes(run(engine, hostile)) == [None]


def test_an_unreadable_row_fails_by_itself(kind: Kind, engine: Engine) -> None:
    requests = [kind.request(number, GREEDY) for number in range(3)]
    requests[1].text = "\ud800"
    assert codes(run(engine, *requests)) == [None, "option_invalid", None]
    missing = kind.request(5, GREEDY)
    missing.pixels = None
    assert codes(run(engine, missing)) == ["image_needed"]


def test_a_processor_without_video_reads_what_it_needs(save_once: SaveOnce) -> None:
    path = save_once("qwen2_vl")
    config = Qwen2VLConfig.from_pretrained(path)
    processor = read_processor(resolve(str(path)), config)
    assert processor.multimodal.video_processor is None
    assert processor.images.size["longest_edge"] == 84 * 84
