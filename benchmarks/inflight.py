"""The engine side of `benchmarks.engine`: the engine loop, with requests added directly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from torch import Tensor

from worker.engine.engine import Engine
from worker.engine.model import as_generator
from worker.engine.request import GenerationOptions, Request
from worker.engine.warmup import warm_up
from worker.models.registry import load


class InFlight:
    """An engine with production settings, on a checkpoint in fp32 on the CPU."""

    def __init__(self, directory: str) -> None:
        model = as_generator(load(directory, "fp32", "cpu"))
        if model is None:
            raise ValueError(f"{directory} holds a model that writes no text")
        self.image_size = model.image_size
        self.engine = Engine(model)
        self.cache = self.engine.encoders[0].cache
        self._ids = count()
        warm_up(self.engine)

    def captions(self, images: Tensor, lengths: Sequence[int]) -> list[str]:
        """Return captions of exactly `lengths` tokens for images uint8 (n, size, size, 3)."""
        # As bytes, the form in which consumers send images.
        pixels = [image.numpy().tobytes() for image in images]
        names = [str(number) for number in range(len(pixels))]
        return self._run(
            [
                self._request("caption", name, image, "", length)
                for name, image, length in zip(names, pixels, lengths, strict=True)
            ]
        )

    def captions_of(self, features: Tensor, lengths: Sequence[int]) -> list[str]:
        """Return captions of images whose features (n, queries, hidden) are cached."""
        for number, feature in enumerate(features):
            self.cache.put(str(number), feature)
        return self._run(
            [
                self._request("caption", str(number), None, "", length)
                for number, length in enumerate(lengths)
            ]
        )

    def answers(self, image: Tensor, questions: Sequence[str], length: int) -> list[str]:
        """Return answers of `length` tokens to questions about one image (1, size, size, 3)."""
        pixels = image[0].numpy().tobytes()
        return self._run(
            [self._request("vqa", "one", pixels, question, length) for question in questions]
        )

    def _request(
        self, task: str, name: str, pixels: bytes | None, text: str, length: int
    ) -> Request:
        options = GenerationOptions(max_new_tokens=length, min_new_tokens=length)
        return Request(next(self._ids), task, name, pixels, text, options)

    def _run(self, requests: Sequence[Request]) -> list[str]:
        """Run requests and clear the feature cache; return texts in the requests' order."""
        for request in requests:
            self.engine.add(request)
        answers = {}
        while not self.engine.idle:
            answers.update({answer.id: answer for answer in self.engine.step()})
        self.cache.clear()
        failed = [answer for answer in answers.values() if answer.error_code is not None]
        if failed:
            raise RuntimeError(failed[0].error_message)
        return [answers[request.id].text for request in requests]
