"""Engines in this process, loaded as `python -m worker.engine` loads them, and their requests."""

from __future__ import annotations

import io

from PIL import Image

from config.settings import WorkerSettings
from worker.engine.__main__ import build_engine, find_snapshots, model_info
from worker.engine.engine import Engine
from worker.engine.protocol import ModelInfo
from worker.engine.selfcheck import check
from worker.engine.warmup import warm_up
from worker.images.decoder import Decoder


def load_engine(model: str, match_model: str = "auto") -> tuple[Engine, ModelInfo]:
    """Load and check the models of these settings; return the first one's description, too."""
    settings = WorkerSettings(model=model, match_model=match_model, device="cpu", precision="fp32")
    engine = build_engine(settings, find_snapshots(settings))
    warm_up(engine)
    check(engine)
    return engine, model_info(engine.models[0])


def decode_pixels(model: ModelInfo, image: Image.Image) -> bytes:
    """Decode an image as a consumer does."""
    file = io.BytesIO()
    image.save(file, "PNG")
    decoder = Decoder(
        model.image_size,
        model.resample,
        10**6,
        frame=model.frame,
        keeps_proportions=model.keeps_proportions,
    )
    return decoder.decode(file.getvalue())
