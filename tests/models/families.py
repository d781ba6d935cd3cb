"""A checkpoint of each family, loaded by the worker and by plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    InstructBlipForConditionalGeneration,
)

from tests.models.adapters import merge
from tests.models.blip_checkpoints import save_caption, save_vqa
from tests.models.checkpoints import SaveOnce
from tests.models.t5_checkpoints import save_blip2, save_instructblip
from tests.models.traffic import picture, sample_of
from worker.engine.request import GenerationOptions, Request
from worker.hub.resolver import resolve
from worker.models.registry import load

NETWORKS: dict[str, tuple[Any, Callable[[Path], None] | None]] = {
    "opt": (Blip2ForConditionalGeneration, None),
    "t5": (Blip2ForConditionalGeneration, save_blip2),
    "instructblip": (InstructBlipForConditionalGeneration, save_instructblip),
    "blip-caption": (BlipForConditionalGeneration, save_caption),
    "blip-vqa": (BlipForQuestionAnswering, save_vqa),
}
#: A family for each decoder; the others share theirs.
SAMPLE = sample_of(NETWORKS, "opt", "t5", "blip-vqa")


@dataclass(frozen=True)
class Expected:
    """Tokens of a text and their log-probabilities."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


class Family:
    """A checkpoint, loaded by the worker and by plain transformers."""

    def __init__(self, path: Path, network_class: Any, adapter: Path | None = None) -> None:
        snapshot = resolve(str(path), adapter=str(adapter or ""))
        self.model: Any = load(snapshot, precision="fp32", device="cpu")
        if adapter is None:
            self.network = network_class.from_pretrained(path).eval()
        else:
            self.network = merge(network_class, path, adapter)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.images = BlipImageProcessorPil.from_pretrained(path)
        self.task = "vqa" if self.model.tasks == {"vqa"} else "caption"

    @property
    def decoder(self) -> Any:
        """The language model of the network."""
        return getattr(self.network, "text_decoder", None) or self.network.language_model

    def request(self, number: int, image: int, text: str, options: GenerationOptions) -> Request:
        side = self.model.image_size
        pixels = picture(image).resize((side, side)).tobytes()
        return Request(number, self.task, f"image-{image}", pixels, text, options)

    def inputs(self, request: Request) -> dict[str, Any]:
        """Return the inputs of `generate`; test_prompts… compares them with the processor's."""
        side, prompt = self.model.image_size, self.model.prompt(request)
        image = picture(int(request.image_hash[6:])).resize((side, side))
        ids = prompt.source or prompt.start
        if self.model.tasks == {"caption"}:
            ids = [*prompt.start, self.tokenizer.sep_token_id]  # BLIP drops it again
        inputs = {"input_ids": ids, "qformer_input_ids": prompt.query}
        tensors = {name: torch.tensor([row]) for name, row in inputs.items() if row}
        masks = {
            name.replace("input_ids", "attention_mask"): torch.ones_like(row)
            for name, row in tensors.items()
        }
        return {**self.images(image, return_tensors="pt"), **tensors, **masks}

    def arguments(self, options: GenerationOptions) -> dict[str, Any]:
        """Return the arguments of `generate`; the tokens of words are the tokenizer's own."""
        names = [
            *("max_new_tokens", "min_new_tokens", "max_length", "min_length", "num_beams"),
            *("num_return_sequences", "repetition_penalty", "length_penalty", "top_k"),
            *("early_stopping", "no_repeat_ngram_size"),
        ]
        how = {name: getattr(options, name) for name in names}
        if options.max_length is not None:
            del how["max_new_tokens"]
        how |= {"min_new_tokens": options.min_new_tokens or None, "do_sample": False}
        if options.temperature:
            how |= {"do_sample": True, "temperature": options.temperature}
        if options.stop:
            how |= {"stop_strings": [*options.stop], "tokenizer": self.tokenizer}
        if options.bad_words:
            words = [word for text in options.bad_words for word in (text, f" {text}")]
            how["bad_words_ids"] = self.tokenizer(
                words, add_special_tokens=False, split_special_tokens=True
            ).input_ids
        return how | {"suppress_tokens": [*options.suppress_tokens] or None}

    def alone(self, request: Request) -> list[Expected]:
        """Return the sequences of a row; each sample is a row of its own."""
        options = request.options
        if options.num_return_sequences == 1 or options.num_beams > 1 or options.seed is None:
            return self._generate(request, options)
        return [
            self._generate(
                request, replace(options, num_return_sequences=1, seed=options.seed + n)
            )[0]
            for n in range(options.num_return_sequences)
        ]

    def _generate(self, request: Request, options: GenerationOptions) -> list[Expected]:
        if options.seed is not None:
            torch.manual_seed(options.seed)
        output = self.network.generate(
            **self.inputs(request),
            return_dict_in_generate=True,
            output_scores=True,
            **self.arguments(options),
        )
        beams = output.get("beam_indices")
        scores = self.decoder.compute_transition_scores(
            output.sequences, output.scores, beams, normalize_logits=True
        )
        new = output.sequences[:, -scores.shape[1] :].tolist()
        lengths = [len(new[0])] if beams is None else (beams >= 0).sum(1).tolist()
        return [
            Expected(tuple(row[:length]), tuple(values[:length]))
            for row, values, length in zip(new, scores.tolist(), lengths, strict=True)
        ]


def save_base(name: str, checkpoint: Path, save_once: SaveOnce) -> Path:
    """Return the directory of a checkpoint of NETWORKS, which tests must not change."""
    return checkpoint if name == "opt" else save_once(name.removeprefix("blip-"))


@cache
def load_family(path: Path, network_class: Any) -> Family:
    """Load a checkpoint once for all modules of a lane."""
    return Family(path, network_class)


@pytest.fixture(scope="module", params=SAMPLE)
def family(request: pytest.FixtureRequest, checkpoint: Path, save_once: SaveOnce) -> Family:
    path = save_base(request.param, checkpoint, save_once)
    return load_family(path, NETWORKS[request.param][0])
