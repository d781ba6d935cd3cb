"""A model of transformers' AutoModelForImageTextToText, run by its own processor and `generate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from io import BytesIO
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessorList

from worker.engine.errors import InputRefused
from worker.engine.frame import ImageBackend
from worker.engine.model import GroupInputs, Prompt, StopTexts, TokenSequence
from worker.engine.request import GenerationOptions, Request
from worker.engine.row_adapters import RowAdapters
from worker.hub.reference import Snapshot
from worker.models.checkpoint import check_weights, read_weights
from worker.models.generation import (
    beam_sequences,
    decode_text,
    generate_arguments,
    token_ids,
)
from worker.models.image_text.architectures import decoder_config, model_class
from worker.models.image_text.processor import Processor, read_processor
from worker.models.image_text.prompts import read_prompts, type_tasks
from worker.models.image_text.row_scores import FiniteScores, UnpaddedPenalties
from worker.models.image_text.sequences import RowEnds, row_sequences
from worker.models.lora_weights import NamedAdapters
from worker.models.memory_shapes import position_bytes
from worker.models.precision import dtype_of
from worker.models.revision import CheckpointFiles, revision
from worker.models.t5 import with_prefix
from worker.models.token_texts import TokenTexts


@dataclass(slots=True)
class GeneratedTokens:
    """The tokens that a model generates."""

    vocab_size: int
    eos_ids: tuple[int, ...]
    suppressed_ids: tuple[int, ...]


class ImageTextModel:
    """A loaded checkpoint. `network` is in evaluation mode, on its device."""

    keeps_proportions = True
    #: Of the consumer, which scales down what is too large; the processor has its own.
    image_backend: ImageBackend = "pil"

    def __init__(
        self,
        snapshot: Snapshot,
        network: Any,
        processor: Processor,
        precision: str,
        image_side: int,
    ) -> None:
        self.name, self.commit, self.revision = snapshot.name, snapshot.commit, ""
        self.network, self.processor, self.precision = network, processor, precision
        self.device: torch.device = network.device
        self.dtype = dtype_of(network, precision, self.device)
        self.adapters = RowAdapters()
        self.image_size = image_side
        resample = getattr(processor.images, "resample", None)
        self.resample = int(Image.Resampling.BICUBIC if resample is None else resample)
        self.prompts = read_prompts(processor, network.config)
        self.tasks = self.prompts.tasks
        self.is_encoder_decoder = bool(network.config.is_encoder_decoder)
        decoder = decoder_config(network.config)
        self.positions: int | None = getattr(decoder, "max_position_embeddings", None)
        self.token_bytes = position_bytes(decoder, self.dtype)
        self.input_names = input_names(network)
        self.generation = generation = network.generation_config
        self.decoder = GeneratedTokens(
            int(decoder.vocab_size),
            token_ids(generation.eos_token_id, getattr(decoder, "eos_token_id", None)),
            token_ids(generation.suppress_tokens),
        )
        self.token_texts = TokenTexts(processor.tokenizer)
        if generation.pad_token_id is None:
            # `generate` would choose an end token, and say so at each call.
            ends = (*self.decoder.eos_ids, 0)
            generation.pad_token_id = processor.tokenizer.pad_token_id or ends[0]
        generation.max_length = None  # each request has its own limit

    @classmethod
    def open(
        cls,
        snapshot: Snapshot,
        config: Any,
        precision: str,
        device: torch.device,
        image_backend: str,
        image_side: int,
    ) -> Self:
        """Load a checkpoint with the configuration `config`. Raises LoadError."""
        with CheckpointFiles(snapshot) as files:
            processor = read_processor(snapshot, config)
            processor.check_backend(image_backend, snapshot)
            network_class = model_class(config)
            named = NamedAdapters(snapshot, config, network_class)
            network = read_weights(network_class, snapshot, precision, device, named.elements)
            model = cls(snapshot, network, processor, precision, image_side)
            model.revision = revision(files, network, precision)
        model.adapters = named.add_to(network, model.dtype)
        return model

    @classmethod
    def check_files(cls, snapshot: Snapshot, config: Any) -> None:
        """Check all files of a checkpoint without reading its weights. Raises LoadError."""
        read_processor(snapshot, config)
        check_weights(model_class(config), snapshot, config)

    @classmethod
    def family_tasks(cls, config: Any) -> frozenset[str]:
        """Return the tasks of a model with this configuration; a chat template adds `chat`."""
        return type_tasks(config.model_type)

    def check(self, request: Request) -> None:
        try:
            self.prompts.text(request)
        except UnicodeError as error:
            raise ValueError("The text is not valid Unicode.") from error

    def collate(self, requests: Sequence[Request]) -> GroupInputs:
        images = [read_image(request) for request in requests]
        texts = [self.prompts.text(request) for request in requests]
        try:
            inputs = self._process(images, texts)
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputRefused(
                f"The model's processor does not accept this image and text: {first_line}"
            ) from error
        inputs = inputs.to(self.device, self.dtype)
        arguments = {name: value for name, value in inputs.items() if name in self.input_names}
        return GroupInputs(arguments, self._prompts(arguments, len(requests)))

    def _prompts(self, arguments: dict[str, Any], rows: int) -> list[Prompt]:
        """Return the prompt of each row without its padding."""
        if "input_ids" not in arguments:
            return [Prompt([]) for _ in range(rows)]
        ids, mask = arguments["input_ids"], arguments["attention_mask"].bool()
        texts = [row[part].tolist() for row, part in zip(ids, mask, strict=True)]
        if self.is_encoder_decoder:
            return [Prompt([], source=text) for text in texts]
        return [Prompt(text) for text in texts]

    def _process(self, images: list[Image.Image], texts: list[str | None]) -> Any:
        if self.processor.multimodal is None:
            return self.processor.images(images, return_tensors="pt")
        # Without the argument, the processor's own default applies.
        special = {} if self.prompts.adds_special_tokens else {"add_special_tokens": False}
        return self.processor.multimodal(
            # A list for each row: some processors take several images in a row.
            images=[[image] for image in images],
            text=texts,
            padding=True,
            padding_side="right" if self.is_encoder_decoder else "left",
            return_tensors="pt",
            **special,
        )

    def limit_error(self, length: int, new: int) -> str | None:
        """Return the error of a prompt of `length` tokens with `new` further ones, or None."""
        needed = max(length, new + 1) if self.is_encoder_decoder else length + new - 1
        if self.positions is None or needed <= self.positions:
            return None
        return (
            f"The prompt has {length} tokens, including image tokens, and {new} new tokens are"
            f" requested; the model has {self.positions} positions."
        )

    @torch.inference_mode()
    def generate(
        self,
        inputs: GroupInputs,
        options: GenerationOptions,
        stop: Callable[[], bool],
        stop_texts: StopTexts | None = None,
    ) -> list[list[TokenSequence]]:
        arguments = generate_arguments(options, stop, stop_texts, self.decoder.suppressed_ids)
        if words := arguments["bad_words_ids"]:
            arguments["bad_words_ids"] = words + (self.generation.bad_words_ids or [])
        finite = FiniteScores(len(inputs.prompts), options.group_beams, self.device)
        processors = LogitsProcessorList([finite])
        padding = [max(inputs.lengths) - length for length in inputs.lengths]
        if any(padding) and not self.is_encoder_decoder:
            processors.append(UnpaddedPenalties(options, padding))
            arguments |= {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        output = self.network.generate(
            **inputs.arguments,
            # Without a value, the checkpoint's own generation settings apply.
            **{name: value for name, value in arguments.items() if value is not None},
            logits_processor=processors,
        )
        width = self._prompt_width(inputs)
        if options.num_beams > 1:
            rows = beam_sequences(self.network, output, width, options)
        else:
            ends = RowEnds(self.decoder.eos_ids, stop_texts)
            rows = row_sequences(self.network, output, width, inputs.prompts, ends)
        failed = finite.failed.tolist()
        return [[] if bad else row for bad, row in zip(failed, rows, strict=True)]

    @torch.inference_mode()
    def first_logits(self, inputs: GroupInputs, steps: int) -> tuple[list[list[int]], Tensor]:
        output = self.network.generate(
            **inputs.arguments,
            do_sample=False,
            num_beams=1,
            max_new_tokens=steps,
            min_new_tokens=steps,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens: list[list[int]] = output.sequences[:, self._prompt_width(inputs) :].tolist()
        return tokens, torch.stack(output.logits, 1)

    def _prompt_width(self, inputs: GroupInputs) -> int:
        """Return the columns of `generate`'s output before the new tokens."""
        if self.is_encoder_decoder or "input_ids" not in inputs.arguments:
            return 1  # the start token
        return int(inputs.arguments["input_ids"].shape[1])

    def text(self, request: Request, prompt: Prompt, new: list[int]) -> str:
        text = decode_text(self.processor.tokenizer, new)
        prefix = self.prompts.prefix(request)
        return with_prefix(prefix, text) if prefix else text


def input_names(network: Any) -> frozenset[str]:
    """Return the inputs that a network reads: some processors have outputs for training too."""
    functions = (network.forward, network.prepare_inputs_for_generation)
    names = {name for function in functions for name in signature(function).parameters}
    return frozenset(names - {"labels"})


def read_image(request: Request) -> Image.Image:
    """Return the image of a request, which is a PPM file."""
    with Image.open(BytesIO(request.pixels or b""), formats=["PPM"]) as image:
        image.load()
        return image
