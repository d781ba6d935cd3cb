"""Random requests of every kind for `benchmarks.soak`, valid and invalid."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, NamedTuple

from demo.scenes import Scene, draw, random_scene
from worker.engine.request import IMAGE_NEEDED, GenerationOptions, Request

#: Error codes that an answer may have; None is a success.
Codes = frozenset[str | None]
Fields = dict[str, Any]

GOOD: Final[Codes] = frozenset({None})
#: Shares of requests by kind. Tasks that no model offers are included and must be rejected.
SHARES: Final = {
    "caption": 28,
    "conditional": 10,
    "vqa": 28,
    "chat": 9,
    "match": 9,
    "embed image": 4,
    "embed text": 3,
    "sampled": 8,
    "penalties": 5,
    "beams": 1,
    "bad": 4,
}
#: Shares of rows that repeat a recent request, have no pixels, are cancelled, have a deadline, or
#: are interactive.
DUPLICATES, WITHOUT_PIXELS, CANCELLED, WITH_DEADLINE, INTERACTIVE = 0.1, 0.05, 0.03, 0.04, 0.2
#: Maximum steps before a cancellation or a deadline.
MAX_DELAY: Final = 40
#: Number of recent rows that may be repeated.
RECENT: Final = 60
BEGINNINGS: Final = ("a", "a red", "a picture of", "two shapes:", "there is a blue square")
#: Text that is too long for every model.
TOO_LONG: Final = "no end " * 600


class Picture(NamedTuple):
    """A scene with its pixels, as a consumer sends it."""

    name: str
    scene: Scene
    pixels: bytes


@dataclass(slots=True)
class SoakItem:
    """A request and the error codes that it may get."""

    kind: str
    request: Request
    allowed: Codes = GOOD
    cancel_at: int | None = None  # a step


class Traffic:
    """An endless stream of requests, the same for the same seed."""

    def __init__(self, seed: int, pictures: list[Picture], tasks: frozenset[str]) -> None:
        self.random, self.pictures, self.tasks = Random(seed), pictures, tasks
        self._recent: deque[SoakItem] = deque(maxlen=RECENT)
        self._number = 0
        self._makers: dict[str, Callable[[Picture], Fields]] = {
            "caption": lambda _: {"task": "caption"},
            "conditional": self._conditional,
            "vqa": self._vqa,
            "chat": self._chat,
            "match": self._match,
            "embed image": lambda _: {"task": "embed"},
            "embed text": lambda p: {"task": "embed", "text": self._sentence(p), **NO_IMAGE},
            "sampled": lambda p: self._vqa(p) | {"options": self._sampled()},
            "penalties": lambda p: self._conditional(p) | {"options": self._penalties()},
            "beams": lambda p: self._conditional(p) | {"options": self._beams()},
        }

    def next(self, name: int | str, step: int) -> SoakItem:
        """Return a request with the id `name`, after `step` steps of the engine."""
        chance = self.random.random
        self._number += 1
        if self._recent and chance() < DUPLICATES:
            item = self.random.choice(self._recent)
        else:
            item = self._create()
            if item.kind != "bad":
                self._recent.append(item)
        request = replace(item.request, id=name, interactive=chance() < INTERACTIVE)
        item = replace(item, request=request)
        return item if item.kind == "bad" else self._add_hazards(item, step)

    def _add_hazards(self, item: SoakItem, step: int) -> SoakItem:
        """Add cancellations, deadlines and missing pixels at random."""
        chance, request = self.random.random, item.request
        if chance() < WITHOUT_PIXELS and request.image_hash:
            request.pixels = None
            item.allowed |= {IMAGE_NEEDED}
        if chance() < CANCELLED:
            item.cancel_at = step + self.random.randrange(MAX_DELAY)
            item.allowed |= {"cancelled"}
        if chance() < WITH_DEADLINE:
            # The engine's clock counts steps here. Some deadlines have passed already.
            request.deadline = step + self.random.uniform(-2, MAX_DELAY)
            item.allowed |= {"deadline_exceeded"}
        return item

    def _create(self) -> SoakItem:
        (kind,) = self.random.choices(list(SHARES), list(SHARES.values()))
        picture = self.random.choice(self.pictures)
        if kind == "bad":
            return self._bad(picture)
        request = self._request(picture, self._makers[kind](picture))
        allowed: Codes = GOOD if request.task in self.tasks else frozenset({"unsupported_task"})
        return SoakItem(kind, request, allowed)

    def _request(self, picture: Picture, fields: Fields) -> Request:
        options = GenerationOptions(max_new_tokens=self.random.choice((1, 4, 8, 12, 16)))
        defaults: Fields = {
            "image_hash": picture.name,
            "pixels": picture.pixels,
            "options": options,
        }
        return Request(0, **defaults | fields)

    def _bad(self, picture: Picture) -> SoakItem:
        """Return an invalid request with its error code."""
        options = GenerationOptions(temperature=-1.0)
        unknown = {"image_hash": f"unknown {self._number}"}
        code, fields = self.random.choice(
            (
                ("prompt_too_long", {"task": "vqa", "text": TOO_LONG}),
                ("prompt_too_long", {"task": "caption", "options": GenerationOptions(9999)}),
                ("image_invalid", {"task": "caption", "pixels": b"\0" * 9, **unknown}),
                (IMAGE_NEEDED, {"task": "caption", "pixels": None, **unknown}),
                ("unsupported_task", {"task": "translate"}),
                ("option_invalid", {"task": "caption", "options": options}),
                ("option_invalid", {"task": "caption", "text": "half a pair \ud800"}),
            )
        )
        return SoakItem("bad", self._request(picture, fields), frozenset({code}))

    def _conditional(self, picture: Picture) -> Fields:
        return {"task": "caption", "text": self.random.choice(BEGINNINGS)}

    def _vqa(self, picture: Picture) -> Fields:
        return {"task": "vqa", "text": self._question(picture)}

    def _chat(self, picture: Picture) -> Fields:
        questions = picture.scene.questions()
        turns = self.random.sample(questions, self.random.randrange(4))
        history = tuple((turn.question, turn.answer) for turn in turns)
        return {"task": "chat", "text": self._question(picture), "history": history}

    def _match(self, picture: Picture) -> Fields:
        count = self.random.randrange(1, 5)
        return {"task": "match", "texts": tuple(self._sentence(picture) for _ in range(count))}

    def _question(self, picture: Picture) -> str:
        question = self.random.choice(picture.scene.questions()).question
        # New words, so that the tokenizers' caches must evict entries.
        return question if self.random.random() < 0.8 else f"{question} {self._number}"

    def _sentence(self, picture: Picture) -> str:
        return self.random.choice((picture, self.random.choice(self.pictures))).scene.caption()

    def _sampled(self) -> GenerationOptions:
        choose = self.random.choice
        return GenerationOptions(
            max_new_tokens=10,
            temperature=choose((0.5, 1.0, 1.5)),
            top_k=choose((0, 5, 40)),
            top_p=choose((1.0, 0.9, 0.5)),
            seed=choose((None, *range(8))),
        )

    def _penalties(self) -> GenerationOptions:
        choose = self.random.choice
        return GenerationOptions(
            max_new_tokens=12,
            min_new_tokens=choose((0, 6, 12)),
            repetition_penalty=choose((1.0, 1.3)),
            no_repeat_ngram_size=choose((0, 2, 3)),
        )

    def _beams(self) -> GenerationOptions:
        choose = self.random.choice
        return GenerationOptions(
            max_new_tokens=10, num_beams=choose((2, 3)), length_penalty=choose((1.0, 0.5))
        )


#: Fields of a request without an image.
NO_IMAGE: Final[Fields] = {"image_hash": "", "pixels": None}


def draw_pictures(count: int, seed: int, side: int) -> Iterator[Picture]:
    """Yield distinct scenes of the demo's world."""
    random = Random(f"soak {seed}")
    for number in range(count):
        scene = random_scene(random)
        yield Picture(f"scene {number}", scene, draw(scene, side, side).tobytes())
