"""Results of transformers' image processor with torchvision, from a process of its own.

PyPI's torchvision is built for CUDA. Its C++ operators, which detect objects, do not load beside
torch for CPUs; declared, they let its Python code be imported, which resizes by torch alone.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
from PIL import Image

from demo.stack import ROOT

#: `make setup` unpacks torchvision here, where no other process finds it.
TORCHVISION = ROOT / ".venv" / "torchvision"
_OPERATORS = ("nms", "qnms")


def reference(cases: list[tuple[dict[str, Any], Image.Image]]) -> list[np.ndarray[Any, Any]]:
    """Return the pixel values of each image by a processor with the settings beside it."""
    completed = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps([(settings, np.asarray(image)) for settings, image in cases]),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{TORCHVISION}{os.pathsep}{ROOT}"},
        check=True,
    )
    values: list[np.ndarray[Any, Any]] = pickle.loads(completed.stdout)
    return values


def _main() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from transformers import AutoImageProcessor, BlipImageProcessor

    automatic = AutoImageProcessor.from_pretrained(ROOT / "demo" / "model")
    assert isinstance(automatic, BlipImageProcessor), type(automatic)
    processor: Any = BlipImageProcessor
    values = [
        processor(**settings)(
            image, input_data_format="channels_last", return_tensors="np"
        ).pixel_values
        for settings, image in pickle.load(sys.stdin.buffer)
    ]
    sys.stdout.buffer.write(pickle.dumps(values))


if __name__ == "__main__":
    _main()
