"""`python -m worker.engine.gpus`: print the GPUs that torch can use, as JSON.

torch knows all that decides: CUDA_VISIBLE_DEVICES, the driver, and its own build. The supervisor
runs this module in a process of its own, since torch takes seconds and memory.
"""

from __future__ import annotations

import json

import torch


def main() -> None:
    """Print the names of the GPUs in their order, and the version of torch."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(index) for index in range(count)]
    with_cuda = torch.version.cuda is not None or torch.version.hip is not None
    print(json.dumps({"gpus": gpus, "torch": torch.__version__, "with_cuda": with_cuda}))


if __name__ == "__main__":
    main()
