"""A worker whose consumers resize images as torchvision does, in a real process tree."""

from __future__ import annotations

from demo.stack import running_redis, running_worker
from producer import Client
from tests.echo_worker import ENVIRONMENT, SIDE, answer_to_pixels
from tests.hostile.specimen import encoded
from tests.models.processors import noise
from worker.engine.frame import ImageBackend
from worker.images.decoder import Decoder


def test_the_engine_gets_the_pixels_of_the_backend_of_its_model() -> None:
    pictures = [encoded(noise(*size), "PNG") for size in ((640, 480), (97, 41), (15, 19))]
    backends: tuple[ImageBackend, ...] = ("pil", "torchvision")
    by_backend = {
        backend: [
            answer_to_pixels(Decoder(SIDE, 3, 10**6, backend=backend).decode(picture))
            for picture in pictures
        ]
        for backend in backends
    }
    assert by_backend["pil"][0] != by_backend["torchvision"][0]
    settings = {**ENVIRONMENT, "BLIPLINE_IMAGE_BACKEND": "torchvision"}
    with running_redis() as url, running_worker(url, settings), Client(url) as client:
        bulk = [result.text for result in client.submit_batch(pictures).results(timeout=60)]
        interactive = [client.caption(picture).result(timeout=60) for picture in pictures]
    assert bulk == interactive == by_backend["torchvision"]
