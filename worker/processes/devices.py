"""The devices of this machine that get a process tree each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.devices import DeviceChoice
from worker.engine.errors import LoadError
from worker.processes.cores import divide_cores, usable_cores
from worker.processes.supervisor import Stopped


@dataclass(frozen=True)
class Device:
    """A device with a process tree."""

    #: Unique on this machine, as `cuda:0` or `cpu:1`.
    name: str
    #: The setting DEVICE of its tree.
    setting: str
    cores: frozenset[int]

    @property
    def directory(self) -> str:
        """The name of its run directory."""
        return self.name.replace(":", "-")


def select_devices(
    choice: DeviceChoice, list_gpus: Callable[[], Sequence[str]], cores: set[int] | None = None
) -> list[Device]:
    """Return the chosen devices, with an equal share of the cores each.

    `list_gpus` returns the names of all GPUs. Raises LoadError if a device does not exist.
    """
    cores = usable_cores() if cores is None else cores
    if choice.cpu_trees > len(cores):
        raise LoadError(
            f"BLIPLINE_DEVICES=cpu:{choice.cpu_trees} needs a core for each process tree; this "
            f"worker may use {len(cores)}."
        )
    if choice.cpu_trees:
        pairs = [(f"cpu:{number}", "cpu") for number in range(choice.cpu_trees)]
    else:
        pairs = [(name, name) for name in _select_gpus(choice, list_gpus())]
    shares = divide_cores(cores, len(pairs))
    return [
        Device(name, setting, frozenset(share))
        for (name, setting), share in zip(pairs, shares, strict=True)
    ]


def _select_gpus(choice: DeviceChoice, existing: Sequence[str]) -> list[str]:
    chosen = range(len(existing)) if choice.all_gpus else choice.gpus
    missing = [f"cuda:{number}" for number in chosen if number >= len(existing)]
    if missing:
        offered = ", ".join(f"cuda:{number} ({name})" for number, name in enumerate(existing))
        raise LoadError(
            f"BLIPLINE_DEVICES: {', '.join(missing)} {'do' if missing[1:] else 'does'} not exist; "
            f"this machine has {offered}."
        )
    return [f"cuda:{number}" for number in chosen]


def list_gpus(pause: Callable[[], bool]) -> list[str]:
    """Return the names of the GPUs that torch can use, asking a process with torch.

    Raises LoadError if there is none, Stopped if `pause` is true meanwhile.
    """
    command = [sys.executable, "-m", "worker.engine.gpus"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        while process.poll() is None:
            if pause():
                process.kill()
                raise Stopped
        output = process.stdout.read() if process.stdout else b""
    if process.returncode:
        raise LoadError("BLIPLINE_DEVICES: torch cannot list the GPUs: see the message above.")
    answer = json.loads(output.splitlines()[-1])
    if not answer["gpus"]:
        reason = "" if answer["with_cuda"] else f": torch {answer['torch']} is built without CUDA"
        raise LoadError(
            f"BLIPLINE_DEVICES: this machine has no usable CUDA device{reason}; choose cpu:<n>, or "
            "check the driver and CUDA_VISIBLE_DEVICES."
        )
    return list(answer["gpus"])
